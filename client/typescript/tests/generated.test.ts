// What is generated is in step with what it is made of.
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { VERSION } from "../src/index.js";
import { command } from "./processes.js";

test("src/wire is what `npm run generate` makes of proto/", async () => {
  const folder = await mkdtemp(join(tmpdir(), "permitd-wire-"));
  await command("node", ["scripts/generate.js", folder]);
  const [made, kept] = [await filesIn(folder), await filesIn("src/wire")];
  assert.ok(made.size > 0);
  assert.deepEqual(kept, made, "run `npm run generate` in client/typescript");
  await rm(folder, { recursive: true });
});

test("the version is the package's", async () => {
  const about = JSON.parse(await readFile("package.json", "utf8")) as { version: string };
  assert.equal(VERSION, about.version);
});

async function filesIn(folder: string): Promise<Map<string, string>> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const read = async (path: string) => [path.slice(folder.length), await readFile(path, "utf8")] as const;
  return new Map(await Promise.all(paths.sort().map(read)));
}
