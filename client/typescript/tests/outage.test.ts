// No server: what each policy makes of it, and what becomes of it when one is back.
import assert from "node:assert/strict";
import { test } from "node:test";

import { type Client, connect, type OutagePolicy } from "../src/index.js";
import { type Limit, Outcome } from "../src/wire/permitd_v1.js";
import { FakeServer, type FakeSession, limit } from "./fake.js";
import { refusalOf } from "./refusals.js";

interface Stage {
  readonly server: FakeServer;
  readonly session: FakeSession;
  readonly client: Client;
}

async function stage(outage: OutagePolicy): Promise<Stage> {
  const server = await FakeServer.start();
  const connecting = connect(server.endpoint, { outage, outageAfterMs: 300 });
  const session = await server.welcomed();
  return { server, session, client: await connecting };
}

/** Asks until the server itself answers. */
async function untilManaged(client: Client): Promise<void> {
  for (let isManaged = false; !isManaged;) {
    const guard = await client.acquire("api/prod");
    isManaged = guard.permit.source === "server";
    guard.cancel();
  }
}

test("fail_closed says that nobody can be asked, and keeps reports for the next server", async () => {
  const { server, session, client } = await stage("fail_closed");
  const granting = client.acquire("api/prod");
  await session.grantNext("p1");
  const guard = await granting;
  const waiting = refusalOf(client.acquire("api/prod"));
  await session.acquires.next();
  server.kill();
  for (const error of [await waiting, await refusalOf(client.acquire("api/prod"))]) {
    assert.deepEqual([error.kind, error.reason], ["unavailable", "NO_SERVER"]);
    assert.match(error.message, new RegExp(`${server.port}.*permitd serve`));
  }
  const kept = await refusalOf(guard.report({ outcome: "rate_limited" }));
  assert.match(kept.message, /kept and sent/);

  await using next = await FakeServer.start(server.port);
  const again = await next.welcomed();
  const report = await again.settleNext();
  assert.deepEqual([report.permitId, report.outcome], ["p1", Outcome.RATE_LIMITED]);
  await client.close();
});

test("fail_open grants what nobody counts, until a server is back", async () => {
  const { server, session, client } = await stage("fail_open");
  const waiting = client.acquire("api/prod", { tokens: 7 });
  await session.acquires.next();
  server.kill();
  const guard = await waiting;
  const { permitId, source, charged } = guard.permit;
  assert.deepEqual([permitId, source, charged.tokens], ["", "fail_open", 7n]);
  const advice = await guard.report({ status: 429 });
  assert.deepEqual([advice.settled, advice.retry], [false, false]);

  await using next = await FakeServer.start(server.port);
  const again = await next.welcomed();
  void (async () => {
    for (let permit = 1; ; permit += 1) await again.grantNext(`p${permit}`);
  })();
  await untilManaged(client);
  await again.settleNext();
  await client.close();
});

test("fail_open and local_share start without a server", async () => {
  const gone = await FakeServer.start();
  gone.kill();
  const open = await connect(gone.endpoint, { outage: "fail_open", outageAfterMs: 20 });
  assert.equal((await open.acquire("api/prod")).permit.source, "fail_open");
  await open.close();
  const local = await connect(gone.endpoint, { outage: "local_share", outageAfterMs: 20 });
  const error = await refusalOf(local.acquire("api/prod"));
  assert.deepEqual([error.kind, error.reason], ["unavailable", "NO_LOCAL_SHARE"]);
  await local.close();
});

/** Cuts a client with a share off from its server, with so many permits in its hands. */
async function cutOff(limits: Limit[], held: number, validSeconds = 600n) {
  const { server, session, client } = await stage("local_share");
  session.share(limits, validSeconds);
  const guards = [];
  for (let permit = 1; permit <= held; permit += 1) {
    const granting = client.acquire("api/prod");
    await session.grantNext(`p${permit}`);
    guards.push(await granting);
  }
  // What waits now is answered from the share.
  const waiting = client.acquire("api/prod", { tokens: 5 });
  await session.acquires.next();
  server.kill();
  return { server, client, guards, waiting };
}

test("local_share grants from the share, and counts the permits from before", async () => {
  const { server, client, guards, waiting } = await cutOff([limit("in_flight", 2n)], 3);
  const now = () => client.acquire("api/prod", { maxWaitMs: 0 });
  // Three of two are taken, then two of two.
  assert.equal((await refusalOf(now())).limit, "in_flight");
  const kept = guards
    .shift()
    ?.report()
    .catch(() => "kept");
  assert.equal(await kept, "kept");
  assert.equal((await refusalOf(now())).limit, "in_flight");
  guards.shift()?.close();
  const local = await waiting;
  assert.deepEqual([local.permit.source, local.permit.charged.inputTokens], ["local_share", 5n]);
  assert.equal((await refusalOf(now())).limit, "in_flight");
  const advice = await local.report({ status: 200, usage: { tokens: 3 } });
  assert.deepEqual([advice.outcome, advice.settled], ["success", true]);
  const last = await now();

  await using next = await FakeServer.start(server.port);
  const again = await next.welcomed();
  assert.ok((await again.settleNext()).permitId.startsWith("p"));
  assert.ok((await again.settleNext()).permitId.startsWith("p"));
  // A permit of the share is nobody's business by now.
  assert.equal((await last.report()).settled, false);
  await client.close();
});

test("local_share holds as long as the server said, and whoever waits then is told", async () => {
  const { client, waiting } = await cutOff([limit("requests", 1n)], 0, 1n);
  const error = await refusalOf(waiting);
  assert.deepEqual([error.kind, error.reason], ["unavailable", "NO_LOCAL_SHARE"]);
  await client.close();
});
