// How a call went, and what the server makes of it.
import { durationOf, millisOf } from "./convert.js";
import { invalid } from "./errors.js";
import { checkSpan } from "./request.js";
import { type Usage, wireUsage } from "./usage.js";
import { type ReportRequest, type ReportResponse, Outcome as WireOutcome } from "./wire/permitd_v1.js";

/**
 * - `success`: it worked.
 * - `rate_limited`: refused for a rate of requests or tokens.
 * - `concurrency_limited`: refused for too many calls at once.
 * - `overloaded`: the provider has no capacity for anybody.
 * - `acceleration_limited`: refused for growing too steeply.
 * - `quota_exhausted`: credit or spend cap used up: no call succeeds before a reset.
 * - `too_large`: this request can never succeed under the provider's limits.
 * - `failed`: sent, and failed for another reason.
 * - `cancelled`: never sent: everything goes back to the budget.
 */
export type Outcome = keyof typeof OUTCOMES;

const OUTCOMES = {
  success: WireOutcome.SUCCESS,
  rate_limited: WireOutcome.RATE_LIMITED,
  concurrency_limited: WireOutcome.CONCURRENCY_LIMITED,
  overloaded: WireOutcome.OVERLOADED,
  acceleration_limited: WireOutcome.ACCELERATION_LIMITED,
  quota_exhausted: WireOutcome.QUOTA_EXHAUSTED,
  too_large: WireOutcome.TOO_LARGE,
  failed: WireOutcome.FAILED,
  cancelled: WireOutcome.CANCELLED,
} as const;

/**
 * Says how the call of one permit went: outright by `outcome`, or by what the provider said, which the server reads by the provider's
 * profile. What is said outright wins. Nothing at all is a success with everything as charged.
 */
export interface Report {
  readonly outcome?: Outcome | undefined;
  /** The HTTP status. */
  readonly status?: number | undefined;
  /** The response's headers. Only those that can say something about limits are sent: never a cookie or a credential. */
  readonly headers?: Iterable<readonly [string, string]> | Readonly<Record<string, string>> | undefined;
  /** The body of an error, or its beginning; at most 4 KiB are sent. */
  readonly body?: string | Uint8Array | undefined;
  /** What was used; absent units stay as charged. */
  readonly usage?: Usage | undefined;
  /** The wait that the provider asked for, in milliseconds; wins over headers and body. */
  readonly retryAfterMs?: number | undefined;
  /** How long the call took, in milliseconds. Filled in by `call` and `fetch`. */
  readonly latencyMs?: number | undefined;
}

/** The answer to a {@link Report}. */
export interface Advice {
  /** How the call went, as classified. */
  readonly outcome: Outcome;
  /** Whether this report settled the permit. False where it had expired, or where no server granted it (`fail_open`). */
  readonly settled: boolean;
  /** Whether the call is worth acquiring again for. */
  readonly retry: boolean;
  /** For information, in milliseconds: acquiring again already waits in the queue. */
  readonly retryAfterMs?: number | undefined;
}

/** Bytes of an error body that are sent on; the rest is cut off. */
export const BODY_BYTES_MAX = 4 * 1024;
/** Headers that one report carries; the rest is left out. */
const HEADERS_MAX = 64;
/** Bytes in one header's value; longer ones are left out. */
const HEADER_BYTES_MAX = 1_024;

/** In the wire's form. Throws an error that names the field for what makes no sense. */
export function wireReport(permitId: string, report: Report): ReportRequest {
  const { status = 0, retryAfterMs, latencyMs } = report;
  if (!Number.isInteger(status) || status < 0 || status > 999) {
    throw invalid("status", `${status} is no HTTP status`);
  }
  if (report.outcome !== undefined && !isOutcome(report.outcome)) {
    throw invalid("outcome", `${String(report.outcome)} is none of ${Object.keys(OUTCOMES).join(", ")}`);
  }
  if (retryAfterMs !== undefined) checkSpan("retryAfterMs", retryAfterMs);
  if (latencyMs !== undefined) checkSpan("latencyMs", latencyMs);
  return {
    permitId,
    outcome: report.outcome ? OUTCOMES[report.outcome] : status === 0 ? WireOutcome.SUCCESS : WireOutcome.UNSPECIFIED,
    retryAfter: retryAfterMs === undefined ? undefined : durationOf(retryAfterMs),
    actual: report.usage && wireUsage("usage", report.usage),
    httpStatus: status,
    headers: report.headers ? tellingHeaders(report.headers) : {},
    body: report.body === undefined ? NO_BODY : excerpt(report.body),
    latency: latencyMs === undefined ? undefined : durationOf(latencyMs),
  };
}

/** What goes out when a report with more in it was refused. */
export function bareReport(report: ReportRequest): ReportRequest {
  const outcome = report.outcome || (report.httpStatus < 400 ? WireOutcome.SUCCESS : WireOutcome.FAILED);
  return { ...wireReport(report.permitId, {}), outcome };
}

export function adviceOf(answer: ReportResponse): Advice {
  return {
    outcome: outcomeOf(answer.outcome),
    settled: answer.settled,
    retry: answer.retry,
    retryAfterMs: answer.retryAfter && millisOf(answer.retryAfter),
  };
}

/** No server knows of the permit: nothing is settled and nothing advised. */
export function unsettled(report: ReportRequest): Advice {
  return { outcome: outcomeOf(bareReport(report).outcome), settled: false, retry: false };
}

/** What is left of a report that makes no sense. */
export function outcomeAlone(report: Report): Outcome {
  if (isOutcome(report.outcome)) return report.outcome;
  return isGood(report) ? "success" : "failed";
}

function isOutcome(name: string | undefined): name is Outcome {
  return name !== undefined && Object.hasOwn(OUTCOMES, name);
}

/** Whether it says nothing but "it worked", or leaves the outcome to a status below 400. */
export function isGood(report: Report): boolean {
  return report.outcome === undefined ? (report.status ?? 0) < 400 : report.outcome === "success";
}

const NO_BODY = Buffer.alloc(0);

const BY_NUMBER = new Map<WireOutcome, Outcome>();
for (const [name, number] of Object.entries(OUTCOMES)) BY_NUMBER.set(number, name as Outcome);

/** An outcome that a newer server invented counts as a failure. */
export function outcomeOf(outcome: WireOutcome): Outcome {
  return BY_NUMBER.get(outcome) ?? "failed";
}

/** A copy, since the caller's bytes may be used again before they are sent. */
function excerpt(body: string | Uint8Array): Buffer {
  const bytes = typeof body === "string" ? Buffer.from(body.slice(0, BODY_BYTES_MAX)) : body;
  return Buffer.from(bytes.subarray(0, BODY_BYTES_MAX));
}

function tellingHeaders(headers: NonNullable<Report["headers"]>): Record<string, string> {
  const pairs = Symbol.iterator in headers ? headers : Object.entries(headers);
  const kept: Record<string, string> = {};
  let count = 0;
  for (const [anyCase, value] of pairs) {
    const name = anyCase.toLowerCase();
    if (count === HEADERS_MAX) break;
    if (saysSomethingOfLimits(name) && Buffer.byteLength(value) <= HEADER_BYTES_MAX) {
      kept[name] = value;
      count += 1;
    }
  }
  return kept;
}

const TELLING = ["limit", "retry", "quota", "remaining", "reset", "throttl", "x-amzn-errortype", "x-should-retry"];

/** Profiles on the server decide which headers count; this only keeps out what no profile could want. */
function saysSomethingOfLimits(name: string): boolean {
  return name === "date" || TELLING.some((part) => name.includes(part));
}
