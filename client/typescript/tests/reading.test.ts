// What the adapter reads of requests and answers, in every provider's shape.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { estimate, usageIn } from "../src/index.js";
import { modelIn } from "../src/http/estimate.js";
import { parsed } from "../src/http/json.js";
import { SseReader } from "../src/http/sse.js";

describe("an estimate", () => {
  const read = (body: unknown) => {
    const { inputTokens, maxOutputTokens } = estimate(typeof body === "string" ? body : JSON.stringify(body)) ?? {};
    return [inputTokens, maxOutputTokens];
  };

  test("counts a token for every four bytes of text, wherever it stands and in whatever script", () => {
    const text = "x".repeat(400);
    assert.deepEqual(read({ messages: [{ content: text }] }), [100n, undefined]);
    assert.deepEqual(read({ input: [text, text] }), [200n, undefined]);
    assert.deepEqual(read({ input: "文".repeat(400) }), [300n, undefined]);
    assert.deepEqual(read({}), [1n, undefined], "no call is for nothing");
    assert.equal(estimate("not { JSON at all"), undefined, "nothing is known");
  });

  test("counts what is no text by the piece, and tokens as what they are", () => {
    const data = "A".repeat(1_000_000);
    const [byAnthropic] = read({ source: { type: "base64", media_type: "image/png", data } });
    assert.ok(byAnthropic && byAnthropic >= 1_600n && byAnthropic < 1_610n);
    assert.deepEqual(read({ image_url: { url: `data:image/png;base64,${data}` } }), [1_600n, undefined]);
    assert.deepEqual(
      read({
        input: [
          [1, 2, 3],
          [4, 5],
        ],
      }),
      [5n, undefined],
    );
  });

  test("finds the bound of the output where each provider has it, for each answer asked for", () => {
    assert.equal(read({ max_tokens: 64 })[1], 64n);
    assert.equal(read({ max_tokens: 64, max_completion_tokens: 32 })[1], 32n);
    assert.equal(read({ generationConfig: { maxOutputTokens: 7 } })[1], 7n);
    assert.equal(read({ max_tokens: 64, n: 3 })[1], 192n);
    assert.equal(read({ max_tokens: -5 })[1], undefined, "the provider will say what is wrong with it");
    assert.equal(read('{"max_tokens":9007199254740993}')[1], 9007199254740993n);
    assert.equal(read('{"max_tokens":18446744073709551615,"n":18446744073709551615}')[1], 2n ** 64n - 1n);
  });

  test("of a body that goes very deep counts what can be counted", () => {
    const depth = 5_000;
    assert.equal(read(`${"[".repeat(depth)}"x"${"]".repeat(depth)}`)[0], 1n);
  });

  test("finds the model in the body", () => {
    assert.equal(modelIn({ model: "gpt-5" }), "gpt-5");
    assert.equal(modelIn({}), "");
    assert.equal(modelIn(undefined), "");
  });
});

describe("usage", () => {
  const told = (body: string) => {
    const used = usageIn(body);
    return used && [used.inputTokens, used.outputTokens, used.cachedInputTokens];
  };

  test("is found in every provider's words, with the cached part in the input", () => {
    const cases: [string, [bigint, bigint, bigint | undefined]][] = [
      ['{"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}', [9n, 4n, undefined]],
      ['{"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":5}}}', [9n, 4n, 5n]],
      [
        '{"usage":{"input_tokens":9,"output_tokens":4,"input_tokens_details":{"cached_tokens":0}}}',
        [9n, 4n, undefined],
      ],
      [
        '{"usage":{"input_tokens":9,"output_tokens":4,"cache_creation_input_tokens":2,"cache_read_input_tokens":3}}',
        [14n, 4n, 3n],
      ],
      ['{"usage":{"prompt_tokens":9,"total_tokens":9}}', [9n, 0n, undefined]],
      [
        '{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4,"thoughtsTokenCount":2,"cachedContentTokenCount":1}}',
        [9n, 6n, 1n],
      ],
      [
        '{"usage":{"input_tokens":9007199254740993,"output_tokens":18446744073709551615}}',
        [2n ** 53n + 1n, 2n ** 64n - 1n, undefined],
      ],
    ];
    for (const [body, wanted] of cases) assert.deepEqual(told(body), wanted, body);
  });

  test("is found in streams, where later events win", () => {
    const anthropic = [
      'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":25,"cache_read_input_tokens":5,"output_tokens":1}}}',
      'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"usage\\""}}',
      'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":15}}',
      'event: message_stop\ndata: {"type":"message_stop"}',
    ];
    const openai = [
      'data: {"choices":[{"delta":{"content":"hi"}}],"usage":null}',
      'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}',
      "data: [DONE]",
    ];
    const responses = [
      'event: response.created\ndata: {"type":"response.created","response":{"usage":null}}',
      'event: response.completed\ndata: {"type":"response.completed","response":{"usage":{"input_tokens":7,"output_tokens":3}}}',
    ];
    const gemini = [
      'data: {"usageMetadata":{"promptTokenCount":4}}',
      'data: {"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":6}}',
    ];
    for (const end of ["\n", "\r\n", "\r"]) {
      const stream = (events: string[]) => events.map((event) => event.replaceAll("\n", end) + end + end).join("");
      assert.deepEqual(told(stream(anthropic)), [30n, 15n, 5n]);
      assert.deepEqual(told(stream(openai)), [9n, 4n, undefined]);
      assert.deepEqual(told(stream(responses)), [7n, 3n, undefined]);
      assert.deepEqual(told(stream(gemini)), [4n, 6n, undefined]);
    }
  });

  test("is nothing where a body says nothing, or nonsense", () => {
    for (const body of ["", "<html>", "[]", "null", '{"usage":null}', '{"usage":{"input_tokens":-1}}', "data: {\n\n"]) {
      assert.equal(usageIn(body), undefined, body);
    }
  });
});

test("events are cut wherever the pieces are", () => {
  const bytes = Buffer.from("data: ä\r\n\r\ndata: b\n\ndata: c\r\rdata: d");
  for (let at = 0; at <= bytes.length; at += 1) {
    const reader = new SseReader();
    const events = [...reader.push(bytes.subarray(0, at)), ...reader.push(bytes.subarray(at)), ...reader.end()];
    assert.deepEqual(events, ["data: ä", "data: b", "data: c", "data: d"], `cut at ${at}`);
  }
});

test("an event of any length is passed over, and what follows is read", () => {
  const reader = new SseReader();
  const piece = Buffer.alloc(600_000, 120);
  const long = [Buffer.from("data: "), piece, piece, piece].flatMap((bytes) => reader.push(bytes));
  assert.deepEqual([...long, ...reader.push(Buffer.from("x\n\ndata: next\n\n"))], ["data: next"]);
});

test("JSON keeps the digits of integers, and leaves everything else as it is", () => {
  const text = '{"a":12345678901234567890,"b":"1234567890123456789","c":[0.12345678901234567,1e21,-9007199254740993]}';
  assert.deepEqual(parsed(text), {
    a: 12345678901234567890n,
    b: "1234567890123456789",
    c: [0.12345678901234567, 1e21, -9007199254740993n],
  });
  assert.equal(parsed('{"a":1234567890123456789'), undefined);
});
