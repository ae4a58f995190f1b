// What README.md shows is run as it stands.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";

import { command, Provider, Server } from "./processes.js";

test("the README's example runs from beginning to end", async () => {
  const readme = await readFile("README.md", "utf8");
  const blocks = [...readme.matchAll(/```typescript\n(.*?)```/gs)].map(([, code]) => code ?? "");
  assert.ok(blocks.length >= 4);
  await using provider = await Provider.start("--latency-median-ms", "1");
  await using server = await Server.start(
    ["anthropic/prod", "github", "openai/prod"]
      .map((name) => `[budgets."${name}"]\nlimits = ["in_flight=1"]\n`)
      .join(""),
  );
  const around = [
    `const url = ${JSON.stringify(`${provider.endpoint}/sim/stats`)};`,
    "const callTheApi = async () => ({ input: 900, output: 40 });",
  ];
  const program = [
    ...around,
    ...blocks,
    "console.log(page.status, openai.maxRetries, typeof anthropic.messages);",
  ].join("\n");
  // Within the package, which goes by its own name there.
  await writeFile("build/readme.mjs", program.replaceAll("http://127.0.0.1:7110", server.endpoint));
  const env = { OPENAI_API_KEY: "key", ANTHROPIC_API_KEY: "key" };
  const { stdout } = await command(process.execPath, ["build/readme.mjs"], { env });
  assert.equal(stdout, "200 2 object\n");
});
