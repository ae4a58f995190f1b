// A `fetch` in front of another one: a permit for every request, a report for every answer, and again while the server advises it.
import { ATTEMPTS } from "../call.js";
import type { Client } from "../client.js";
import type { Guard } from "../guard.js";
import { BODY_BYTES_MAX, type Report } from "../report.js";
import type { AcquireOptions, Priority } from "../request.js";
import type { Usage } from "../usage.js";
import { followed, withBody } from "./answer.js";
import { estimateOf, modelIn } from "./estimate.js";
import { parsed } from "./json.js";
import { type FetchInit, type FetchInput, type Outgoing, outgoing } from "./outgoing.js";

/** What can be said of all requests; all of it may be left out. */
export interface FetchOptions {
  /** See `AcquireOptions`. */
  readonly tenant?: string | undefined;
  readonly priority?: Priority | undefined;
  readonly maxWaitMs?: number | undefined;
  /** Default: what the request's body names. */
  readonly model?: string | undefined;
  /**
   * How often a request is made at most. Default: 4. Above 1, the last refusal carries `x-should-retry: false`, so that an SDK does not
   * multiply the attempts by its own; 1 leaves trying again to the SDK.
   */
  readonly attempts?: number | undefined;
  /** What a request is expected to use. Default: as far as its body tells. `body` is its JSON, absent for anything else. */
  readonly estimate?: ((url: string, body: unknown) => Usage | undefined) | undefined;
  /** Makes the requests. Default: the global `fetch`. */
  readonly fetch?: typeof globalThis.fetch | undefined;
}

export function permitFetch(client: Client, budget: string, options: FetchOptions): typeof globalThis.fetch {
  return async (input: FetchInput, init?: FetchInit) => {
    const request = await outgoing(input, init);
    const attempts = request.isRepeatable ? (options.attempts ?? ATTEMPTS) : 1;
    const ask = askFor(request, options);
    let refusal: Response | undefined;
    for (let attempt = 1; ; attempt += 1) {
      let guard: Guard;
      try {
        guard = await client.acquire(budget, ask);
      } catch (error) {
        // There is something better to tell than that it cannot be tried again.
        if (refusal && !request.signal?.aborted) return final(refusal);
        throw error;
      }
      await refusal?.body?.cancel();
      refusal = undefined;
      const hasMore = attempt < attempts;
      const began = performance.now();
      let response: Response;
      try {
        response = await request.send(options.fetch ?? globalThis.fetch);
      } catch (error) {
        const report = { outcome: "failed", latencyMs: performance.now() - began } as const;
        if (!request.signal?.aborted && (await isWorthAnother(guard, report, hasMore))) continue;
        guard.close();
        throw error;
      }
      if (response.status < 400) return followed(response, guard, began);
      const { status, headers } = response;
      const body = await excerptOf(response);
      const report = { status, headers, body, latencyMs: performance.now() - began };
      if (!(await isWorthAnother(guard, report, hasMore))) {
        return (options.attempts ?? ATTEMPTS) > 1 ? final(response) : response;
      }
      refusal = response;
    }
  };
}

function askFor(request: Outgoing, options: FetchOptions): AcquireOptions {
  const { tenant, priority, maxWaitMs } = options;
  const { text, signal, url } = request;
  const value = text === undefined ? undefined : parsed(text);
  const model = options.model ?? modelIn(value);
  const usage = options.estimate ? options.estimate(url, value) : guess(value);
  return { tenant, priority, maxWaitMs, model, signal, usage };
}

/** Of a request without JSON, nothing is known. */
function guess(body: unknown): Usage | undefined {
  return body === undefined ? undefined : estimateOf(body);
}

/** Reports, and waits for the advice only where it matters. */
async function isWorthAnother(guard: Guard, report: Report, hasMore: boolean): Promise<boolean> {
  const advice = guard.report(report);
  if (!hasMore) return false;
  return (await advice.catch(() => undefined))?.retry === true;
}

/** The beginning of the body, which stays to be read. */
async function excerptOf(response: Response): Promise<Uint8Array> {
  const reader = response.clone().body?.getReader();
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    while (reader && bytes < BODY_BYTES_MAX) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      bytes += value.length;
    }
    // Not waited for: a branch of two is through only when the other one is.
    void reader?.cancel().catch(() => {});
  } catch {
    // A body that breaks off says what it said until then.
  }
  return Buffer.concat(pieces).subarray(0, BODY_BYTES_MAX);
}

/** SDKs look at this header before they try again by themselves. */
function final(response: Response): Response {
  const headers = new Headers(response.headers);
  headers.set("x-should-retry", "false");
  return withBody(response, response.body, headers);
}
