// One call that does it all: acquire, run, report, and again while the server advises it.
import type { Client } from "./client.js";
import { deadlinePassed } from "./errors.js";
import type { Guard } from "./guard.js";
import type { Permit } from "./permit.js";
import { isGood, type Report } from "./report.js";
import { type AcquireOptions, checkSpan } from "./request.js";

/** How one run of the work ended. */
export type CallResult<T> =
  { readonly value: T; readonly error?: never } | { readonly error: unknown; readonly value?: never };

export interface CallOptions<T> extends AcquireOptions {
  /** How often the work is run at most; at least once. Default: 4. */
  readonly attempts?: number | undefined;
  /**
   * Reads the report out of a result, also where a value holds a refusal, such as a response with status 429. Default: a value is a
   * success with everything as estimated, an error a failure.
   */
  readonly classify?: ((result: CallResult<Awaited<T>>) => Report) | undefined;
}

/** Attempts where nobody said a number. */
export const ATTEMPTS = 4;

export async function call<T>(
  client: Client,
  budget: string,
  options: CallOptions<T>,
  work: (permit: Permit, signal: AbortSignal) => T | PromiseLike<T>,
): Promise<Awaited<T>> {
  const { attempts = ATTEMPTS, classify = byResult, timeoutMs } = options;
  if (timeoutMs !== undefined) checkSpan("timeoutMs", timeoutMs);
  const until = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  let last: CallResult<Awaited<T>> | undefined;
  for (let attempt = 1; ; attempt += 1) {
    const left = until === undefined ? undefined : Math.max(0, until - performance.now());
    let guard: Guard;
    try {
      guard = await client.acquire(budget, { ...options, timeoutMs: left });
    } catch (error) {
      // There is something better to tell than that it cannot be tried again.
      if (last && !options.signal?.aborted) return outcomeOf(last);
      throw error;
    }
    const began = performance.now();
    last = await run(guard, options.signal, until, work);
    const report = { latencyMs: performance.now() - began, ...classify(last) };
    if (isGood(report) || attempt >= attempts) {
      void guard.report(report);
      return outcomeOf(last);
    }
    const advice = await guard.report(report).catch(() => undefined);
    if (!advice?.retry) return outcomeOf(last);
  }
}

/** Runs the work until it is through, the time is over or the caller aborts; in the latter cases its guard settles as failed. */
async function run<T>(
  guard: Guard,
  signal: AbortSignal | undefined,
  until: number | undefined,
  work: (permit: Permit, signal: AbortSignal) => T | PromiseLike<T>,
): Promise<CallResult<Awaited<T>>> {
  const interrupt = new AbortController();
  const timer =
    until === undefined ? undefined : setTimeout(() => interrupt.abort(deadlinePassed()), until - performance.now());
  const onAbort = () => interrupt.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await new Promise((resolve, reject) => {
      interrupt.signal.addEventListener("abort", () => reject(interrupt.signal.reason), { once: true });
      const running = (async () => work(guard.permit, interrupt.signal))();
      running.then(
        (value) => resolve({ value: value as Awaited<T> }),
        (error) => resolve({ error }),
      );
    });
  } catch (error) {
    guard.close();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

function byResult(result: CallResult<unknown>): Report {
  return { outcome: "error" in result ? "failed" : "success" };
}

function outcomeOf<T>(result: CallResult<T>): T {
  if ("error" in result) throw result.error;
  return result.value;
}
