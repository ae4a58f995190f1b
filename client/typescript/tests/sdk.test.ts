// The examples, as programs, against a provider that refuses whatever is too fast: with permits, nothing is.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { command, Provider, Server } from "./processes.js";

const QUESTIONS = 30;

describe("an SDK with permits gets no refusal", () => {
  for (const [example, shape] of [
    ["openai", "/v1"],
    ["anthropic", ""],
  ] as const) {
    test(example, async () => {
      const fast = ["--latency-median-ms", "20", "--output-mean", "20"];
      // A little more than is declared, since calls overtake each other on their way.
      await using provider = await Provider.start("--requests", "1200/10", "--concurrency", "6", ...fast);
      await using server = await Server.start(`
        [budgets."${example}/prod"]
        limits = ["requests=1200/1m,burst=5", "in_flight=4"]
      `);
      const { stdout } = await command(process.execPath, [`build/examples/${example}.js`], {
        // And nothing else, so that no key of anybody's is used.
        env: {
          PERMITD: server.endpoint,
          QUESTIONS: String(QUESTIONS),
          [`${example.toUpperCase()}_BASE_URL`]: `${provider.endpoint}${shape}`,
          [`${example.toUpperCase()}_API_KEY`]: "key",
        },
      });
      assert.equal(stdout, `${QUESTIONS} answers\n`);
      const { ok, limited } = await provider.counted();
      assert.deepEqual([ok, limited], [QUESTIONS, 0]);
    });
  }
});
