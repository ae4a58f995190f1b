// The one error of this package: with questions to ask it and a message that says what to do.
import { status } from "@grpc/grpc-js";

import { millisOf } from "./convert.js";
import type { Refused } from "./wire/permitd_v1.js";

/**
 * - `refused`: somebody who was asked said no: the server, or the local share in its place.
 * - `timeout`: the caller's own time was over first.
 * - `unavailable`: no server could be asked, and the outage policy does not stand in for it.
 * - `invalid`: the request makes no sense; the message names the field. Asking again is of no use.
 * - `closed`: the client was closed.
 */
export type PermitErrorKind = "refused" | "timeout" | "unavailable" | "invalid" | "closed";

/** What a {@link PermitError} is made of. */
export interface PermitErrorFacts {
  kind: PermitErrorKind;
  /** The gRPC status by its name, for example `RESOURCE_EXHAUSTED`. */
  code: string;
  /** The reason by its stable name, for example `QUEUE_FULL` or `BUDGET_UNKNOWN`. */
  reason: string;
  message: string;
  limit?: string | undefined;
  retryAfterMs?: number | undefined;
}

/** Why there is no permit, or no answer to a report. */
export class PermitError extends Error {
  override readonly name = "PermitError";
  readonly kind: PermitErrorKind;
  /** The gRPC status by its name, for example `RESOURCE_EXHAUSTED`. */
  readonly code: string;
  /** The reason by its stable name in UPPER_SNAKE_CASE, for example `QUEUE_FULL` or `BUDGET_UNKNOWN`. */
  readonly reason: string;
  /** The limit that refused, for example `tokens/1m`, if one did. */
  readonly limit: string | undefined;
  /** After how many milliseconds asking again may help; absent means never, or not known. */
  readonly retryAfterMs: number | undefined;

  constructor(facts: PermitErrorFacts) {
    super(facts.message);
    this.kind = facts.kind;
    this.code = facts.code;
    this.reason = facts.reason;
    this.limit = facts.limit;
    this.retryAfterMs = facts.retryAfterMs;
  }

  /**
   * The time that the caller gave was not enough: it passed, or whoever was asked knows that a grant can't come within it (then the
   * kind is `refused`).
   */
  get isTimeout(): boolean {
    return this.kind === "timeout" || this.reason === "NOT_IN_TIME";
  }

  /** The request asks for more than the limit ever holds. Asking again is of no use. */
  get isImpossible(): boolean {
    return this.reason === "LARGER_THAN_LIMIT";
  }
}

// Reasons that this package gives itself; all others come from the server.

export function invalid(field: string, problem: string): PermitError {
  const message = `${field}: ${problem}`;
  return new PermitError({ kind: "invalid", code: "INVALID_ARGUMENT", reason: "INVALID_ARGUMENT", message });
}

export function deadlinePassed(): PermitError {
  const message = "the time for the call passed before it was through; allow more (timeoutMs, maxWaitMs)";
  return new PermitError({ kind: "timeout", code: "DEADLINE_EXCEEDED", reason: "DEADLINE_EXCEEDED", message });
}

export function noAnswerInTime(): PermitError {
  const message = "maxWaitMs passed without an answer from the server; try again later or wait longer (maxWaitMs)";
  return new PermitError({ kind: "timeout", code: "RESOURCE_EXHAUSTED", reason: "NOT_IN_TIME", message });
}

export function clientFull(waitingMax: number): PermitError {
  const message =
    `${waitingMax} requests of this client wait already and none left in time; slow down, allow more time ` +
    "(maxWaitMs), or raise waitingMax";
  return new PermitError({ kind: "refused", code: "RESOURCE_EXHAUSTED", reason: "CLIENT_FULL", message });
}

/** `problem` is the last thing that went wrong while connecting. */
export function noServer(problem: string): PermitError {
  const message = `no permitd server can be reached: ${problem}; check the endpoints and that \`permitd serve\` runs`;
  return new PermitError({ kind: "unavailable", code: "UNAVAILABLE", reason: "NO_SERVER", message });
}

export function noLocalShare(budget: string, problem: string): PermitError {
  const message =
    `no permitd server can be reached (${problem}), and there is no valid local share of ${budget}; ` +
    "shares come with the use of a budget, for the time that the server says";
  return new PermitError({ kind: "unavailable", code: "UNAVAILABLE", reason: "NO_LOCAL_SHARE", message });
}

export function reportKept(problem: string): PermitError {
  const message = `the report has no answer yet: ${problem}; it is kept and sent as soon as a server can be reached`;
  return new PermitError({ kind: "unavailable", code: "UNAVAILABLE", reason: "NO_SERVER", message });
}

export function closed(): PermitError {
  const message = "the client was closed; connect a new one";
  return new PermitError({ kind: "closed", code: "CANCELLED", reason: "CLIENT_CLOSED", message });
}

/** The server's refusal of an acquire or a report. */
export function refused(said: Refused): PermitError {
  const limit = said.limit || undefined;
  return new PermitError({
    // The caller's fault, and not for want of anything.
    kind: codeName(said.code) === "INVALID_ARGUMENT" ? "invalid" : "refused",
    code: codeName(said.code),
    reason: said.reason,
    message: said.message || (limit ? `refused by ${limit}: ${said.reason}` : `refused: ${said.reason}`),
    limit,
    retryAfterMs: said.retryAfter && millisOf(said.retryAfter),
  });
}

export function codeName(code: number): string {
  return status[code] ?? "UNKNOWN";
}
