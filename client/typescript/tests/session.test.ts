// Against a scripted server: what the session does when the server, the network or the caller behaves in some particular way.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Metadata, status } from "@grpc/grpc-js";

import { type Client, type ConnectOptions, connect } from "../src/index.js";
import { Outcome } from "../src/wire/permitd_v1.js";
import { FakeServer, type FakeSession } from "./fake.js";
import { refusalOf } from "./refusals.js";

interface Stage extends AsyncDisposable {
  readonly server: FakeServer;
  readonly session: FakeSession;
  readonly client: Client;
}

async function stage(options: ConnectOptions = {}): Promise<Stage> {
  const server = await FakeServer.start();
  const connecting = connect(server.endpoint, options);
  const session = await server.welcomed();
  const client = await connecting;
  const end = async () => {
    server.kill();
    await client.close();
  };
  return { server, session, client, [Symbol.asyncDispose]: end };
}

describe("a session", () => {
  test("begins with who asks, and carries what is ready in one message", async () => {
    await using at = await stage({ tenant: "web", name: "tests/1" });
    const { sessionId, client, tenant } = await at.session.hello;
    assert.deepEqual([client, tenant], ["tests/1", "web"]);
    assert.match(sessionId, /^[0-9a-f]{32}$/);
    const asked = Array.from({ length: 500 }, () => at.client.acquire("api/prod"));
    const message = await at.session.messages.next();
    assert.equal(message.acquire.length, 500);
    for (const { requestId } of message.acquire) at.session.grant(requestId, `p${requestId}`);
    const reports = (await Promise.all(asked)).map((guard) => guard.report());
    let answered = 0;
    while (answered < 500) {
      await at.session.settleNext();
      answered += 1;
    }
    assert.ok((await Promise.all(reports)).every(({ settled }) => settled));
  });

  test("is resumed with everything that has no answer, and takes no grant twice", async () => {
    await using at = await stage();
    const granted = at.client.acquire("api/prod");
    await at.session.grantNext("p1");
    const guard = await granted;
    const waiting = at.client.acquire("api/prod", { tokens: 7, maxWaitMs: 60_000 });
    const asked = await at.session.acquires.next();
    const reporting = guard.report({ status: 429 });
    await at.session.reports.next();
    at.session.fail({ code: status.UNAVAILABLE, details: "broken" });

    const again = await at.server.welcomed({ resumed: true });
    assert.equal((await again.hello).sessionId, (await at.session.hello).sessionId);
    const message = await again.messages.next();
    assert.deepEqual(
      message.acquire.map(({ requestId, tokens }) => [requestId, tokens]),
      [[asked.requestId, 7n]],
    );
    assert.ok(Number(message.acquire[0]?.maxWait?.seconds) < 60, "the wait has shrunk");
    // What the server had granted before comes again; it was reported meanwhile.
    again.grant(99n, "p1");
    again.grant(asked.requestId, "p2");
    again.grant(asked.requestId, "p2");
    assert.equal((await again.settleNext()).httpStatus, 429);
    await reporting;
    const last = (await waiting).report();
    assert.equal((await again.settleNext()).permitId, "p2");
    await last;
    assert.equal(again.reports.size, 0);
  });

  test("gives back a grant that crosses its cancel", async () => {
    await using at = await stage();
    const interrupt = new AbortController();
    const aborted = at.client.acquire("api/prod", { signal: interrupt.signal });
    const { requestId } = await at.session.acquires.next();
    interrupt.abort();
    await assert.rejects(aborted, { name: "AbortError" });
    assert.equal(await at.session.cancels.next(), requestId);
    at.session.grant(requestId, "p1");
    const report = await at.session.reports.next();
    assert.deepEqual([report.permitId, report.outcome], ["p1", Outcome.CANCELLED]);
  });

  test("sends nothing of what is aborted before it was sent", async () => {
    await using at = await stage();
    const interrupt = new AbortController();
    const aborted = at.client.acquire("api/prod", { signal: interrupt.signal, tokens: 1 });
    interrupt.abort(new Error("never mind"));
    await assert.rejects(aborted, /never mind/);
    await assert.rejects(at.client.acquire("api/prod", { signal: interrupt.signal }), /never mind/);
    const next = at.client.acquire("api/prod", { tokens: 2 });
    assert.equal((await at.session.grantNext("p1")).tokens, 2n);
    (await next).cancel();
  });

  test("extends the permit of a guard that lives long", async () => {
    await using at = await stage();
    const granting = at.client.acquire("api/prod");
    const { requestId } = await at.session.acquires.next();
    at.session.grant(requestId, "p1", 80);
    const guard = await granting;
    assert.equal(await at.session.extensions.next(), "p1");
    assert.equal(await at.session.extensions.next(), "p1");
    // The refusal of an extension crosses the report, and is not taken for one of it.
    const reporting = guard.report();
    await at.session.reports.next();
    at.session.refuse({ permitId: "p1" }, status.NOT_FOUND, "PERMIT_UNKNOWN");
    at.session.settle("p1");
    assert.equal((await reporting).settled, true);
  });

  test("goes to the next server when one drains, and asks there again", async () => {
    await using one = await FakeServer.start();
    await using other = await FakeServer.start();
    const connecting = connect([one.endpoint, other.endpoint]);
    const session = await one.welcomed();
    await using client = await connecting;
    const waiting = client.acquire("api/prod");
    const { requestId } = await session.acquires.next();
    session.refuse({ requestId }, status.UNAVAILABLE, "DRAINING");
    const next = await other.welcomed();
    assert.equal((await next.grantNext("p1")).requestId, requestId);
    (await waiting).cancel();
    await next.settleNext();
  });

  test("says the outcome alone where more of a report was refused", async () => {
    await using at = await stage();
    const granting = at.client.acquire("api/prod");
    await at.session.grantNext("p1");
    const reporting = (await granting).report({ status: 500, body: "x".repeat(9_000), usage: { tokens: 3 } });
    const full = await at.session.reports.next();
    assert.equal(full.body.length, 4_096);
    at.session.refuse({ permitId: "p1" }, status.INVALID_ARGUMENT, "INVALID_ARGUMENT");
    assert.equal((await refusalOf(reporting)).kind, "invalid");
    const bare = await at.session.settleNext();
    assert.deepEqual([bare.outcome, bare.body.length, bare.actual], [Outcome.FAILED, 0, undefined]);
  });

  test("goes on under another id when a newer stream has its own", async () => {
    await using at = await stage();
    const details = errorInfo("SESSION_TAKEN_OVER");
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", details);
    at.session.fail({ code: status.ABORTED, details: "taken over", metadata });
    const next = await at.server.welcomed();
    assert.notEqual((await next.hello).sessionId, (await at.session.hello).sessionId);
  });

  test("shows a new token when the old one has expired", async () => {
    await using server = await FakeServer.start();
    const tokens = ["old", "new"];
    const connecting = connect(server.endpoint, { token: () => tokens.shift() ?? "none left" });
    const session = await server.welcomed();
    assert.deepEqual(session.metadata.get("authorization"), ["Bearer old"]);
    await using client = await connecting;
    const waiting = client.acquire("api/prod");
    await session.acquires.next();
    session.fail({ code: status.UNAUTHENTICATED, details: "the token has ended" });
    const next = await server.welcomed({ resumed: true });
    assert.deepEqual(next.metadata.get("authorization"), ["Bearer new"]);
    await next.grantNext("p1");
    (await waiting).cancel();
    await next.settleNext();
  });

  test("of an older server, which leaves fields out, works", async () => {
    await using at = await stage();
    const granting = at.client.acquire("api/prod");
    const { requestId } = await at.session.acquires.next();
    at.session.grant(requestId, "p1", 0);
    const { permit, ...guard } = await granting.then((granted) => ({ permit: granted.permit, granted }));
    assert.deepEqual([permit.permitId, permit.charged, permit.expiresAt], ["p1", { other: {} }, undefined]);
    const reporting = guard.granted.report();
    await at.session.settleNext();
    assert.equal((await reporting).retryAfterMs, undefined);
  });

  test("is ended politely, with every guard settled", async () => {
    const at = await stage();
    const granting = [at.client.acquire("api/prod"), at.client.acquire("api/prod")];
    await at.session.grantNext("p1");
    await at.session.grantNext("p2");
    const [first, second] = await Promise.all(granting);
    const waiting = refusalOf(at.client.acquire("api/prod"));
    const { requestId } = await at.session.acquires.next();
    const reporting = first?.report();
    const closing = at.client.close();
    assert.equal((await waiting).reason, "CLIENT_CLOSED");
    assert.equal(await at.session.cancels.next(), requestId);
    const reports = [await at.session.settleNext(), await at.session.settleNext()];
    const outcomes = reports.map(({ permitId, outcome }) => [permitId, outcome]);
    assert.deepEqual(outcomes, [
      ["p1", Outcome.SUCCESS],
      ["p2", Outcome.FAILED],
    ]);
    assert.equal((await reporting)?.settled, true);
    await at.session.ended;
    at.session.stream.end();
    await closing;
    assert.equal((await refusalOf(at.client.acquire("api/prod"))).reason, "CLIENT_CLOSED");
    assert.equal((await refusalOf(second?.report() ?? assert.fail())).reason, "CLIENT_CLOSED");
    at.server.kill();
  });
});

describe("the client itself", () => {
  test("keeps the caller's time, whatever the server does", async () => {
    await using at = await stage();
    const late = await refusalOf(at.client.acquire("api/prod", { timeoutMs: 20 }));
    assert.deepEqual([late.kind, late.reason], ["timeout", "DEADLINE_EXCEEDED"]);
    const { requestId, maxWait } = await at.session.acquires.next();
    assert.ok(maxWait && maxWait.seconds === 0n && maxWait.nanos <= 20_000_000, "the server is told");
    assert.equal(await at.session.cancels.next(), requestId);
    const unanswered = await refusalOf(at.client.acquire("api/prod", { maxWaitMs: 5 }));
    assert.deepEqual([unanswered.kind, unanswered.reason], ["timeout", "NOT_IN_TIME"]);
  });

  test("holds back what is past waitingMax, in the order of asking", async () => {
    await using at = await stage({ waitingMax: 1 });
    const asked = [1, 2, 3].map((tokens) => at.client.acquire("api/prod", { tokens }));
    const full = await refusalOf(at.client.acquire("api/prod", { tokens: 4, maxWaitMs: 5 }));
    assert.equal(full.reason, "CLIENT_FULL");
    for (const [index, asking] of asked.entries()) {
      const { requestId, tokens } = await at.session.acquires.next();
      assert.deepEqual([tokens, at.session.acquires.size], [BigInt(index + 1), 0]);
      at.session.grant(requestId, `p${index}`);
      const guard = await asking;
      guard.cancel();
      await at.session.settleNext();
    }
  });

  test("settles a guard that everybody forgot", async () => {
    await using at = await stage();
    const granting = at.client.acquire("api/prod").then(() => "gone");
    await at.session.grantNext("p1");
    assert.equal(await granting, "gone");
    let report: Outcome | undefined;
    void at.session.settleNext().then(({ outcome }) => (report = outcome));
    const { gc } = globalThis;
    assert.ok(gc, "run with --expose-gc");
    while (report === undefined) {
      gc();
      await new Promise(setImmediate);
    }
    assert.equal(report, Outcome.FAILED);
  });

  test("refuses what makes no sense before it is sent, with the field named", async () => {
    await using at = await stage();
    const problem = async (budget: string, options = {}) => {
      const error = await refusalOf(at.client.acquire(budget, options));
      assert.equal(error.kind, "invalid");
      return error.message;
    };
    assert.match(await problem(""), /^provider: is empty/);
    assert.match(await problem("/prod"), /^provider: is empty/);
    assert.match(await problem(`a/${"x".repeat(257)}`), /^key: 257 bytes/);
    assert.match(await problem("a", { model: "文".repeat(86) }), /^model: 258 bytes/);
    assert.match(await problem("a", { tokens: 1.5 }), /^tokens: 1.5 is no whole amount/);
    assert.match(await problem("a", { tokens: 2 ** 53 }), /^tokens: .*bigint/);
    assert.match(await problem("a", { tokens: 2n ** 64n }), /^tokens: .*outside/);
    assert.match(await problem("a", { usage: { inputTokens: -1 } }), /^usage.inputTokens: -1/);
    assert.match(await problem("a", { usage: { other: { "": 1 } } }), /^usage.other: /);
    assert.match(await problem("a", { maxWaitMs: Number.NaN }), /^maxWaitMs: NaN/);
    assert.match(await problem("a", { priority: "urgent" }), /^priority: urgent is none of/);
    const granting = at.client.acquire("api/prod");
    await at.session.grantNext("p1");
    const reporting = (await granting).report({ outcome: "rate_limited", usage: { tokens: -1 } });
    assert.match((await refusalOf(reporting)).message, /^usage.tokens: -1/);
    assert.equal((await at.session.settleNext()).outcome, Outcome.RATE_LIMITED, "the slot is not lost");
  });
});

/** A `google.rpc.Status` with an ErrorInfo. */
function errorInfo(reason: string): Buffer {
  const field = (number: number, bytes: Buffer) => Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes]);
  const type = field(1, Buffer.from("type.googleapis.com/google.rpc.ErrorInfo"));
  const any = Buffer.concat([type, field(2, field(1, Buffer.from(reason)))]);
  return Buffer.concat([Buffer.from([8, 10]), field(3, any)]);
}
