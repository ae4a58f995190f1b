// Peers that are no permitd, or not the one that is wanted: a clear error, no hang, no busy loop.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Server, ServerCredentials, status } from "@grpc/grpc-js";

import { type ConnectOptions, connect } from "../src/index.js";
import { FakeServer, stranger } from "./fake.js";
import { refusalOf } from "./refusals.js";

/** Long enough for some attempts. */
const BRIEF: ConnectOptions = { outageAfterMs: 400, connectTimeoutMs: 100 };

async function problem(endpoint: string | string[], options = BRIEF): Promise<string> {
  const error = await refusalOf(connect(endpoint, options));
  assert.deepEqual([error.kind, error.code, error.reason], ["unavailable", "UNAVAILABLE", "NO_SERVER"]);
  return error.message;
}

describe("connect says what is wrong", () => {
  test("with nobody there", async () => {
    const gone = await FakeServer.start();
    gone.kill();
    assert.match(await problem(gone.endpoint), /ECONNREFUSED.*permitd serve/);
  });

  test("with a peer that speaks HTTP/1", async () => {
    await using peer = await stranger((socket) => {
      socket.on("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    assert.match(await problem(peer.endpoint, { outageAfterMs: 60_000 }), /does not speak HTTP\/2.*check the port/);
  });

  test("with a peer that says nothing", async () => {
    await using peer = await stranger(() => {});
    assert.match(await problem(peer.endpoint), /does not answer within 100 ms/);
  });

  test("with a peer that hangs up", async () => {
    let calls = 0;
    await using peer = await stranger((socket) => {
      calls += 1;
      socket.destroy();
    });
    await problem(peer.endpoint);
    assert.ok(calls < 200, `${calls} connections`);
  });

  test("with a peer that sends garbage", async () => {
    await using peer = await stranger((socket) => socket.write(Buffer.alloc(4_096, 7)));
    await problem(peer.endpoint);
  });

  test("with gRPC that is something else", async () => {
    const other = new Server();
    const port = await new Promise<number>((resolve) => {
      other.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_, at) => resolve(at));
    });
    const said = await problem(`http://127.0.0.1:${port}`, { outageAfterMs: 60_000 });
    assert.match(said, /no permit service: it is not a permitd server/);
    other.forceShutdown();
  });

  test("with a server that does not begin with a Welcome", async () => {
    await using server = await FakeServer.start();
    const failing = problem(server.endpoint, { outageAfterMs: 60_000 });
    (await server.sessions.next()).send({});
    assert.match(await failing, /without a Welcome/);
  });

  test("with a server that does not let this client in", async () => {
    await using server = await FakeServer.start();
    const failing = problem(server.endpoint, { outageAfterMs: 60_000, token: "t" });
    (await server.sessions.next()).fail({ code: status.UNAUTHENTICATED, details: "nobody's token" });
    assert.match(await failing, /does not let this client in: nobody's token/);
  });

  test("and tries the next server first", async () => {
    const gone = await FakeServer.start();
    gone.kill();
    await using server = await FakeServer.start();
    const connecting = connect([gone.endpoint, server.endpoint]);
    await server.welcomed();
    await using client = await connecting;
    assert.ok(client.isConnected);
  });
});

test("bytes that do not decode end the session, which is opened again without haste", async () => {
  await using server = await FakeServer.start();
  const connecting = connect(server.endpoint);
  const session = await server.welcomed();
  await using client = await connecting;
  session.sendRaw(Buffer.from([0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f]));
  const granting = client.acquire("api/prod");
  let next = await server.welcomed();
  for (let round = 0; round < 4; round += 1) {
    next.sendRaw(Buffer.from([0xff]));
    next = await server.welcomed();
  }
  await next.grantNext("p1");
  (await granting).cancel();
  await next.settleNext();
  assert.equal(server.opened, 6);
});

test("settings that make no sense are refused with the field named", async () => {
  const said = async (endpoints: string | string[], options: object = {}) => {
    const error = await refusalOf(connect(endpoints, options));
    assert.equal(error.kind, "invalid");
    return error.message;
  };
  const here = "http://127.0.0.1:1";
  assert.match(await said([]), /^endpoints: none given/);
  assert.match(await said("ftp://a:1"), /^endpoints: "ftp:\/\/a:1" is no address/);
  assert.match(await said(""), /^endpoints: /);
  assert.match(await said(here, { tls: {} }), /write https:\/\//);
  assert.match(await said("https://a:1", { tls: { ca: "/nowhere/at/all" } }), /^tls.ca: can't read/);
  assert.match(await said("https://a:1", { tls: { ca: "package.json" } }), /^tls.ca: has nothing in PEM/);
  assert.match(await said("https://a:1", { tls: { cert: "-----BEGIN " } }), /^tls: a certificate and its key/);
  assert.match(await said(here, { token: " \n" }), /^token: is empty/);
  assert.match(await said(here, { token: "a\nb" }), /^token: is empty, or has characters/);
  assert.match(await said(here, { token: { file: "/nowhere/at/all" } }), /^token: can't read/);
  assert.match(await said("http://permitd:1", { token: "t" }), /^token: would be sent in the clear/);
  assert.match(await said(here, { tenant: "x".repeat(257) }), /^tenant: 257 bytes/);
  assert.match(await said(here, { outage: "fail" }), /^outage: fail is none of/);
  assert.match(await said(here, { waitingMax: 0 }), /^waitingMax: /);
  assert.match(await said(here, { keepaliveMs: 0 }), /^keepaliveMs: /);
});
