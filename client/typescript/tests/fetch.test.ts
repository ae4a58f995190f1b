// The `fetch` in front of another one: permits for requests, reports for answers, and again while that is advised.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from "node:http";
import { after, afterEach, before, describe, test } from "node:test";

import { type Client, connect } from "../src/index.js";
import { Outcome, type ReportRequest } from "../src/wire/permitd_v1.js";
import { FakeServer, type FakeSession } from "./fake.js";
import { refusalOf } from "./refusals.js";

type Answer = (request: IncomingMessage & { body: string }, response: ServerResponse) => void;

const JSON_TYPE = { "content-type": "application/json" };

describe("fetch", () => {
  let provider: HttpServer;
  let url: string;
  let permitd: FakeServer;
  let session: FakeSession;
  let client: Client;
  const answers: Answer[] = [];
  let permits = 0;

  before(async () => {
    provider = createServer((request, response) => {
      const pieces: Buffer[] = [];
      request.on("data", (piece: Buffer) => pieces.push(piece));
      request.on("end", () => {
        const answer = answers.shift() ?? ((_, unwanted) => void unwanted.writeHead(500).end("nobody expected this"));
        answer(Object.assign(request, { body: Buffer.concat(pieces).toString() }), response);
      });
    });
    provider.listen(0, "127.0.0.1");
    await once(provider, "listening");
    const address = provider.address();
    assert.ok(address && typeof address === "object");
    url = `http://127.0.0.1:${address.port}/v1/chat/completions`;
    permitd = await FakeServer.start();
    const connecting = connect(permitd.endpoint);
    session = await permitd.welcomed();
    client = await connecting;
  });

  after(async () => {
    permitd.kill();
    await client.close();
    provider.closeAllConnections();
    provider.close();
  });

  afterEach(() => {
    assert.deepEqual([answers.length, session.acquires.size, session.reports.size], [0, 0, 0], "nothing is left over");
  });

  const grant = async () => session.grantNext(`p${(permits += 1)}`);

  /** Answers a report; `retry` as the server advises it. */
  const advise = async (retry: boolean): Promise<ReportRequest> => {
    const report = await session.reports.next();
    const { permitId, outcome } = report;
    session.send({ reported: [{ permitId, outcome, settled: true, retry, retryAfter: undefined }] });
    return report;
  };

  test("asks for what the body tells, and reports what was used", async () => {
    answers.push((request, response) => {
      assert.deepEqual([request.method, request.headers.authorization], ["POST", "Bearer key"]);
      assert.match(request.body, /gpt-5/);
      response.writeHead(200, { ...JSON_TYPE, "x-ratelimit-remaining-requests": "7", "set-cookie": "secret" });
      response.end('{"usage":{"prompt_tokens":9,"completion_tokens":4}}');
    });
    const body = JSON.stringify({ model: "gpt-5", max_tokens: 50, messages: [{ content: "x".repeat(395) }] });
    const headers = { ...JSON_TYPE, authorization: "Bearer key" };
    const options = { tenant: "t", priority: "batch", maxWaitMs: 60_000 } as const;
    const fetching = client.fetch("openai/prod", options)(url, { method: "POST", body, headers });
    const asked = await grant();
    assert.deepEqual([asked.provider, asked.key, asked.model, asked.tenant], ["openai", "prod", "gpt-5", "t"]);
    assert.deepEqual([asked.estimate?.inputTokens, asked.estimate?.maxOutputTokens], [100n, 50n]);
    const response = await fetching;
    assert.deepEqual([response.status, response.url], [200, url]);
    assert.equal(session.reports.size, 0, "the call is not over before its body is read");
    assert.deepEqual(await response.json(), { usage: { prompt_tokens: 9, completion_tokens: 4 } });
    const report = await advise(false);
    assert.deepEqual([report.httpStatus, report.actual?.inputTokens, report.actual?.outputTokens], [200, 9n, 4n]);
    assert.deepEqual(Object.keys(report.headers).sort(), ["date", "x-ratelimit-remaining-requests"]);
    assert.ok(report.latency);
  });

  test("makes a request again while that is advised, and tells the SDK not to", async () => {
    const refuse: Answer = (_, response) => {
      response.writeHead(429, { ...JSON_TYPE, "retry-after": "1", "x-should-retry": "true" });
      response.end('{"error":{"message":"slow down"}}');
    };
    answers.push(refuse, refuse, refuse);
    const fetching = client.fetch("openai/prod", { attempts: 3 })(url, { method: "POST", body: "{}" });
    for (const retry of [true, true]) {
      await grant();
      const report = await advise(retry);
      assert.deepEqual([report.httpStatus, report.headers["retry-after"]], [429, "1"]);
      assert.match(Buffer.from(report.body).toString(), /slow down/);
    }
    await grant();
    const response = await fetching;
    await advise(true);
    assert.deepEqual([response.status, response.headers.get("x-should-retry")], [429, "false"]);
    assert.deepEqual(await response.json(), { error: { message: "slow down" } });
  });

  test("gives a refusal as it is when nothing is advised, or trying is left to the SDK", async () => {
    for (const [attempts, told] of [
      [4, "false"],
      [1, null],
    ] as const) {
      answers.push((_, response) => void response.writeHead(400).end("x".repeat(100_000)));
      const fetching = client.fetch("openai/prod", { attempts })(new URL(url), { method: "POST", body: "{}" });
      await grant();
      const report = await advise(false);
      assert.equal(report.body.length, 4_096);
      const response = await fetching;
      assert.equal(response.headers.get("x-should-retry"), told);
      assert.equal((await response.text()).length, 100_000);
    }
  });

  test("reads a stream as it passes", async () => {
    let more: (text: string) => void = () => {};
    answers.push((_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
      response.write('data: {"message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n');
      more = (text) => void response.end(text);
    });
    const fetching = client.fetch("anthropic/prod")(url, { method: "POST", body: '{"stream":true}' });
    await grant();
    const reader = (await fetching).body?.getReader();
    const first = await reader?.read();
    assert.match(
      Buffer.from(first?.value ?? []).toString(),
      /input_tokens/,
      "the first event is there before the last",
    );
    more('data: {"usage":{"output_tokens":15}}\n\n');
    while (!(await reader?.read())?.done);
    const report = await advise(false);
    assert.deepEqual([report.actual?.inputTokens, report.actual?.outputTokens], [25n, 15n]);
  });

  test("reports what a stream said when it is given up, breaks, or is refused in the middle", async () => {
    const begin = 'data: {"message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n';
    /** Reads the first event, and hands out what is needed to go on. */
    const begun = async () => {
      const answering = new Promise<ServerResponse>((resolve) => {
        answers.push((_, response) => {
          response.writeHead(200, { "content-type": "text/event-stream" });
          response.write(begin);
          resolve(response);
        });
      });
      const fetching = client.fetch("anthropic/prod")(url, { method: "POST", body: "{}" });
      await grant();
      const reader = (await fetching).body?.getReader() ?? assert.fail("a body");
      await reader.read();
      return { reader, response: await answering };
    };
    const givenUp = await begun();
    await givenUp.reader.cancel();
    const known = await advise(false);
    assert.deepEqual([known.httpStatus, known.actual?.inputTokens], [200, 25n]);
    assert.equal(known.actual?.outputTokens, undefined, "nobody knows how much there would have been");

    const broken = await begun();
    broken.response.destroy();
    await assert.rejects(broken.reader.read());
    assert.equal((await advise(false)).outcome, Outcome.FAILED);

    const refused = await begun();
    refused.response.end('event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n');
    while (!(await refused.reader.read()).done);
    const report = await advise(true);
    assert.equal(report.httpStatus, 529);
    assert.match(Buffer.from(report.body).toString(), /overloaded_error/);
  });

  test("makes a request again whose connection broke, unless its body is used up", async () => {
    answers.push(
      (request) => void request.socket.destroy(),
      (_, response) => void response.writeHead(204).end(),
    );
    const fetching = client.fetch("api/prod")(new Request(url, { method: "POST", body: "again" }));
    await grant();
    assert.equal((await advise(true)).outcome, Outcome.FAILED);
    const asked = await grant();
    assert.equal(asked.estimate, undefined, "a body that is not JSON of a Request is not read");
    assert.equal((await fetching).status, 204);
    assert.equal((await advise(false)).httpStatus, 204);

    answers.push((request) => void request.socket.destroy());
    const body = new Blob(["once"]).stream();
    const once = client.fetch("api/prod")(url, { method: "POST", body, duplex: "half" } as RequestInit);
    await grant();
    await assert.rejects(once);
    await advise(true);
  });

  test("estimates nothing where nothing is sent", async () => {
    answers.push((_, response) => void response.end());
    const fetching = client.fetch("api/prod", { attempts: 1 })(url);
    const { estimate } = await grant();
    assert.equal(estimate, undefined);
    await (await fetching).text();
    await advise(false);
  });

  test("leaves the queue when aborted, and throws what was refused", async () => {
    const interrupt = new AbortController();
    const aborted = client.fetch("api/prod")(url, { signal: interrupt.signal });
    const { requestId } = await session.acquires.next();
    interrupt.abort();
    await assert.rejects(aborted, { name: "AbortError" });
    assert.equal(await session.cancels.next(), requestId);
    const refused = refusalOf(client.fetch("api/prod")(url));
    session.refuse({ requestId: (await session.acquires.next()).requestId }, 8, "QUEUE_FULL");
    assert.equal((await refused).reason, "QUEUE_FULL");
  });

  test("takes another estimate and another fetch where they are given", async () => {
    const made: string[] = [];
    const fetching = client.fetch("api/prod", {
      model: "mine",
      estimate: (to, body) => ({
        other: { points: (body as { points: number }).points },
        requests: to.length > 0 ? 2 : 0,
      }),
      fetch: async (input) => {
        made.push(input instanceof Request ? input.url : input.toString());
        return new Response(null, { status: 204 });
      },
    })("http://nowhere/at/all", { method: "POST", body: '{"points":5}' });
    const asked = await grant();
    assert.deepEqual([asked.model, asked.estimate?.other, asked.estimate?.requests], ["mine", { points: 5n }, 2n]);
    await fetching;
    assert.deepEqual(made, ["http://nowhere/at/all"]);
    await advise(false);
  });
});
