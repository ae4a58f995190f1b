// `call`: acquire, run, report, and again while that is advised.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { type Client, connect } from "../src/index.js";
import { Server } from "./processes.js";
import { refusalOf } from "./refusals.js";

/** Refusals teach: a budget that gets some is not used for anything else. */
const CONFIG = `
[budgets."api/one"]
limits = ["in_flight=1"]

[budgets."api/refusing"]
limits = ["in_flight=1"]
`;

describe("call", () => {
  let server: Server;
  let client: Client;

  before(async () => {
    server = await Server.start(CONFIG);
    client = await connect(server.endpoint);
  });

  after(async () => {
    await client.close();
    await server.end("SIGKILL");
  });

  test("gives what the work gives, and settles", async () => {
    for (let round = 0; round < 3; round += 1) {
      const permitId = await client.call("api/one", {}, (permit) => permit.permitId);
      assert.notEqual(permitId, "");
    }
  });

  test("runs again while it is advised, and gives the last result", async () => {
    const answers = [429, 503, 200, 200];
    let runs = 0;
    const classify = ({ value }: { value?: number }) => ({ status: value, retryAfterMs: 1 });
    const work = () => answers[runs++] ?? 0;
    assert.equal(await client.call("api/refusing", { classify }, work), 200);
    assert.equal(runs, 3);
    const always = () => ((runs += 1), 429);
    runs = 0;
    assert.equal(await client.call("api/refusing", { classify, attempts: 2 }, always), 429);
    assert.equal(runs, 2);
    runs = 0;
    assert.equal(await client.call("api/refusing", { classify }, () => ((runs += 1), 400)), 400);
    assert.equal(runs, 1, "a bad request is as bad the second time");
  });

  test("throws what the work throws, after its last run", async () => {
    let runs = 0;
    const work = () => {
      runs += 1;
      throw new Error("connection reset");
    };
    await assert.rejects(client.call("api/one", { attempts: 3 }, work), /connection reset/);
    assert.equal(runs, 3);
  });

  test("ends with the caller's time, and tells the work", async () => {
    const told = new Promise<unknown>((resolve) => {
      const work = (_: unknown, signal: AbortSignal) =>
        new Promise(() => signal.addEventListener("abort", () => resolve(signal.reason)));
      void refusalOf(client.call("api/one", { timeoutMs: 50 }, work)).then(({ reason }) => {
        assert.equal(reason, "DEADLINE_EXCEEDED");
      });
    });
    assert.equal(((await told) as { reason: string }).reason, "DEADLINE_EXCEEDED");
    // Its slot is free again.
    await (await client.acquire("api/one")).report();
  });

  test("ends when the caller aborts", async () => {
    const interrupt = new AbortController();
    const work = () => {
      interrupt.abort(new Error("enough"));
      return new Promise(() => {});
    };
    await assert.rejects(client.call("api/one", { signal: interrupt.signal }, work), /enough/);
    await (await client.acquire("api/one")).report();
  });
});
