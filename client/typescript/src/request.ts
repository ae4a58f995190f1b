// What is asked for: plain data, checked before it is sent.
import { invalid } from "./errors.js";
import { type Amount, exactAmount, type Usage, wireUsage } from "./usage.js";
import { type AcquireRequest, Priority as WirePriority } from "./wire/permitd_v1.js";

/** Classes share a budget by weight, 16 : 4 : 1, so that none starves. */
export type Priority = "interactive" | "standard" | "batch";

/** What can be said of a request; all of it may be left out. */
export interface AcquireOptions {
  /** The model to be called; limits may differ by model. */
  readonly model?: string | undefined;
  /** Who shares the budget. Without one, the client's tenant. */
  readonly tenant?: string | undefined;
  /** How many tokens go in. What comes out is learned from reports and charged on top; bound it by `usage.maxOutputTokens`. */
  readonly tokens?: Amount | undefined;
  /** What the call is expected to use, where more is known than `tokens`. */
  readonly usage?: Usage | undefined;
  /** The W3C trace context of whoever asks: where the server sends traces, the acquire is a span below it. */
  readonly traceparent?: string | undefined;
  /** Default: `standard`. */
  readonly priority?: Priority | undefined;
  /** Milliseconds to wait in the queue at most; 0 means now or not at all. Without it, the budget's default. */
  readonly maxWaitMs?: number | undefined;
  /**
   * Milliseconds after which the caller gives up, kept by this client whatever the server does. The server is told, so that it refuses
   * at once what cannot be in time. With `call` it covers the calls and retries too.
   */
  readonly timeoutMs?: number | undefined;
  /** Leaves the queue when aborted; the promise is rejected with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Permits that one request may ask for. */
export const COUNT_MAX = 10_000;

const NAME_BYTES_MAX = 256;

const PRIORITIES: Record<Priority, WirePriority> = {
  interactive: WirePriority.INTERACTIVE,
  standard: WirePriority.STANDARD,
  batch: WirePriority.BATCH,
};

/** Reads `provider/key`; without a slash, the key is `default`. What is sent, but for the request id and the wait. */
export function wireRequest(budget: string, options: AcquireOptions, count: number): AcquireRequest {
  const slash = budget.indexOf("/");
  const provider = slash < 0 ? budget : budget.slice(0, slash);
  const key = slash < 0 ? "" : budget.slice(slash + 1);
  if (provider === "") {
    throw invalid("provider", "is empty; name the budget as PROVIDER/KEY, for example anthropic/prod");
  }
  const model = options.model ?? "";
  const tenant = options.tenant ?? "";
  checkName("provider", provider);
  checkName("key", key);
  checkName("model", model);
  checkName("tenant", tenant);
  if (!Number.isInteger(count) || count < 1 || count > COUNT_MAX) {
    throw invalid("count", `${count} is outside 1 to ${COUNT_MAX}`);
  }
  const priority = PRIORITIES[options.priority ?? "standard"];
  if (priority === undefined) {
    throw invalid("priority", `${options.priority} is none of ${Object.keys(PRIORITIES).join(", ")}`);
  }
  return {
    provider,
    key,
    tokens: options.tokens === undefined ? 0n : exactAmount("tokens", options.tokens),
    estimate: options.usage && wireUsage("usage", options.usage),
    model,
    tenant,
    priority,
    maxWait: undefined,
    count,
    requestId: 0n,
    traceparent: options.traceparent ?? "",
  };
}

/** How long the request may wait: the shorter of its two bounds, in milliseconds. */
export function waitOf(options: AcquireOptions): number | undefined {
  const { maxWaitMs, timeoutMs } = options;
  if (maxWaitMs !== undefined) checkSpan("maxWaitMs", maxWaitMs);
  if (timeoutMs !== undefined) checkSpan("timeoutMs", timeoutMs);
  if (maxWaitMs === undefined) return timeoutMs;
  return timeoutMs === undefined ? maxWaitMs : Math.min(maxWaitMs, timeoutMs);
}

export function checkName(field: string, name: string): void {
  // A character has at most three bytes: most names need no counting.
  if (name.length * 3 <= NAME_BYTES_MAX) return;
  const bytes = Buffer.byteLength(name);
  if (bytes > NAME_BYTES_MAX) throw invalid(field, `${bytes} bytes; a name has at most ${NAME_BYTES_MAX}`);
}

export function checkSpan(field: string, millis: number): void {
  if (typeof millis !== "number" || !Number.isFinite(millis) || millis < 0) {
    throw invalid(field, `${String(millis)} is no span; write milliseconds, at least 0`);
  }
}
