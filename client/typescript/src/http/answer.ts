// An answer on its way to the caller: passed on as it comes, read beside that for what it says was used, and reported when it ends.
import type { Guard } from "../guard.js";
import type { Report } from "../report.js";
import { fieldOf } from "./estimate.js";
import { parsed } from "./json.js";
import { dataOf, SseReader } from "./sse.js";
import { UsageReader } from "./usage.js";

/** Bytes of a whole answer that are looked at; a longer one settles as charged. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;

/** What a refusal in the middle of a stream would have been as a status, by its type or code. */
const STATUSES: Readonly<Record<string, number>> = {
  overloaded_error: 529,
  server_overloaded: 503,
  rate_limit_error: 429,
  rate_limit_exceeded: 429,
  insufficient_quota: 429,
};

/** The same response; its permit is reported once its body is read, given up or broken off. */
export function followed(response: Response, guard: Guard, began: number): Response {
  const settle = (said: Report) => {
    const { status, headers } = response;
    void guard.report({ status, headers, latencyMs: performance.now() - began, ...said });
  };
  if (!response.body) {
    settle({});
    return response;
  }
  const reading = readerFor(response.headers.get("content-type") ?? "");
  const source = response.body.getReader();
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await source.read();
          if (done) {
            settle(reading.end());
            controller.close();
          } else {
            reading.push(value);
            controller.enqueue(value);
          }
        } catch (error) {
          // What came out so far is not all that was used.
          settle({ outcome: "failed", ...inputAlone(reading.end()) });
          controller.error(error);
        }
      },
      async cancel(reason) {
        settle(inputAlone(reading.end()));
        await source.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
  return withBody(response, body, response.headers);
}

/** As the response was, but for these. */
export function withBody(response: Response, body: BodyInit | null, headers: Headers): Response {
  const { status, statusText, url, redirected } = response;
  const copy = new Response(body, { status, statusText, headers });
  // What `new Response` can't be told.
  return Object.defineProperties(copy, { url: { value: url }, redirected: { value: redirected } });
}

interface Reading {
  push(bytes: Uint8Array): void;
  end(): Report;
}

function readerFor(contentType: string): Reading {
  if (contentType.includes("text/event-stream")) return new EventsReading();
  return contentType.includes("json") ? new WholeReading() : { push: () => {}, end: () => ({}) };
}

class WholeReading implements Reading {
  #pieces: Uint8Array[] = [];
  #bytes = 0;

  push(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    if (this.#bytes <= ANSWER_BYTES_MAX) this.#pieces.push(bytes);
    else this.#pieces = [];
  }

  end(): Report {
    if (this.#bytes > ANSWER_BYTES_MAX) return {};
    const value = parsed(Buffer.concat(this.#pieces).toString());
    const usage = new UsageReader();
    // Gemini streams a list where it is not asked for events.
    for (const item of Array.isArray(value) ? value : [value]) usage.add(item);
    return { usage: usage.usage };
  }
}

class EventsReading implements Reading {
  readonly #events = new SseReader();
  readonly #usage = new UsageReader();
  #fault: Report | undefined;

  push(bytes: Uint8Array): void {
    this.#read(this.#events.push(bytes));
  }

  end(): Report {
    this.#read(this.#events.end());
    return { ...this.#fault, usage: this.#usage.usage };
  }

  #read(events: readonly string[]): void {
    for (const event of events) {
      // Most events are pieces of text.
      if (!event.includes('"usage') && !event.includes('"error"')) continue;
      const data = dataOf(event);
      const value = parsed(data);
      this.#usage.add(value);
      this.#fault ??= faultIn(value, data);
    }
  }
}

/** A stream that began well may still be refused. */
function faultIn(value: unknown, data: string): Report | undefined {
  const error = fieldOf(value, "error") ?? fieldOf(fieldOf(value, "response"), "error");
  if (typeof error !== "object" || error === null) return undefined;
  const names = [fieldOf(error, "type"), fieldOf(error, "code")].filter((name) => typeof name === "string");
  const known = names.find((name) => Object.hasOwn(STATUSES, name));
  return { status: known === undefined ? 500 : (STATUSES[known] ?? 500), body: data };
}

/** Without the output, of which nobody knows how much there would have been: it settles as charged. */
function inputAlone({ usage }: Report): Report {
  return usage?.inputTokens === undefined ? {} : { usage: { ...usage, outputTokens: undefined } };
}
