// Against the real server: what every application relies on.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { type Client, connect } from "../src/index.js";
import { Server } from "./processes.js";
import { refusalOf } from "./refusals.js";

const CONFIG = `
[budgets."api/slots"]
limits = ["in_flight=2"]

[budgets."api/free"]
limits = ["points=1/1m"]

[budgets."api/naïve-🚦"]
limits = ["in_flight=1"]
`;

describe("with a real server", () => {
  let server: Server;
  let client: Client;

  before(async () => {
    server = await Server.start(CONFIG);
    client = await connect(server.endpoint, { tenant: "web" });
  });

  after(async () => {
    await client.close();
    await server.end("SIGKILL");
  });

  test("a permit is granted, reported and advised on", async () => {
    const guard = await client.acquire("api/free", { tokens: 1_200, model: "m" });
    assert.deepEqual(
      [guard.permit.provider, guard.permit.key, guard.permit.source, guard.permit.charged.tokens],
      ["api", "free", "server", 1_200n],
    );
    const advice = await guard.report({ outcome: "success", usage: { inputTokens: 900, outputTokens: 12 } });
    assert.deepEqual([advice.outcome, advice.settled, advice.retry], ["success", true, false]);
    const limited = await client.acquire("api/free");
    const again = await limited.report({ status: 429, headers: { "Retry-After": "0" } });
    assert.deepEqual([again.outcome, again.retry], ["rate_limited", true]);
  });

  test("of several reports the first counts, and the others get its answer", async () => {
    const guard = await client.acquire("api/slots");
    const [first, second] = await Promise.all([guard.report({ outcome: "failed" }), guard.report()]);
    assert.deepEqual(first, second);
    assert.equal(first.outcome, "failed");
  });

  test("amounts keep all of their 64 bits", async () => {
    for (const tokens of [2n ** 53n + 1n, 2n ** 63n + 1n, 2n ** 64n - 1n]) {
      const guard = await client.acquire("api/free", { tokens });
      assert.equal(guard.permit.charged.inputTokens, tokens);
      guard.cancel();
    }
  });

  test("names may be in any script", async () => {
    const guard = await client.acquire("api/naïve-🚦", { tenant: "заказы", model: "模型" });
    assert.equal(guard.permit.key, "naïve-🚦");
    await guard.report();
  });

  test("a refusal tells code, reason, limit and wait", async () => {
    const held = [await client.acquire("api/slots"), await client.acquire("api/slots")];
    const error = await refusalOf(client.acquire("api/slots", { maxWaitMs: 0 }));
    assert.deepEqual(
      [error.kind, error.code, error.reason, error.limit, error.isTimeout],
      ["refused", "RESOURCE_EXHAUSTED", "NOT_IN_TIME", "in_flight", true],
    );
    assert.ok((error.retryAfterMs ?? 0) > 0);
    for (const guard of held) guard.cancel();
    const unknown = await refusalOf(client.acquire("nobody/knows"));
    assert.deepEqual([unknown.code, unknown.reason], ["NOT_FOUND", "BUDGET_UNKNOWN"]);
  });

  test("what is aborted leaves the queue, and what is closed gives its slot back", async () => {
    const held = [await client.acquire("api/slots"), await client.acquire("api/slots")];
    const interrupt = new AbortController();
    const aborted = client.acquire("api/slots", { signal: interrupt.signal });
    const next = client.acquire("api/slots");
    interrupt.abort(new Error("not wanted any more"));
    await assert.rejects(aborted, /not wanted any more/);
    held.pop()?.close();
    (await next).cancel();
    held.pop()?.cancel();
    const both = [await client.acquire("api/slots"), await client.acquire("api/slots")];
    for (const guard of both) await guard.report();
  });

  test("a guard that leaves its block without a report settles", async () => {
    for (let round = 0; round < 5; round += 1) {
      using first = await client.acquire("api/slots");
      await using second = await client.acquire("api/slots");
      assert.notEqual(first.permit.permitId, second.permit.permitId);
    }
  });

  test("ten thousand at once are all granted", async () => {
    const one = async () => (await client.acquire("api/free", { tokens: 1 })).report();
    const advice = await Promise.all(Array.from({ length: 10_000 }, one));
    assert.ok(advice.every(({ settled }) => settled));
  });
});
