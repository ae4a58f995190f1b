// Everything that has no final answer yet, so that a broken session loses nothing: requests by id, permits by id, and what has to go out
// next. Pure: it is told the time (in milliseconds of a clock that only goes forward) and does no I/O.
//
// Bounded by its contents: requests by the client's `waitingMax`, permits and reports by the server's bound on the permits of a session.
//
// Invariant: whatever was granted leaves this table only by an answered report. A grant that nobody waits for is reported as cancelled.
import { status } from "@grpc/grpc-js";

import { dateOf, durationOf, millisOf } from "../convert.js";
import { closed, type PermitError, refused, reportKept } from "../errors.js";
import { budgetName, type Permit } from "../permit.js";
import { type Advice, adviceOf, bareReport, wireReport } from "../report.js";
import type { ExactUsage } from "../usage.js";
import type { AcquireRequest, ReportRequest, ReportResponse } from "../wire/permitd_v1.js";
import type { Granted, Refused, SessionRequest } from "../wire/permitd_v1.js";
import { Outbox } from "./outbox.js";

/** The longest life of a permit that counts. */
const TTL_MS_MAX = 86_400_000;
/** Cancels that are remembered for the case that the session breaks. */
const CANCELLING_MAX = 10_000;

/** What was refused for now is not asked again before that, whatever the server says, and together with what is due within as much. */
const AGAIN_MS = 10;

/** An acquire without its last answer. */
export interface Waiting {
  /** As sent, but for the wait and the count, which shrink. */
  readonly ask: AcquireRequest;
  /** By which the server knows it: at first its own id, and another one each time it is asked again. */
  number: number;
  /** Permits still to be granted. */
  remaining: number;
  readonly waitMs: number | undefined;
  readonly askedAt: number;
  readonly onGranted: (permit: Permit) => void;
  readonly onRefused: (error: PermitError) => void;
  /** Whether the server of the present session may know of it. */
  sent: boolean;
}

/** Where the answer to a report goes. */
export interface Reporter {
  resolve(advice: Advice): void;
  reject(error: PermitError): void;
}

/** A permit that the server gave. */
type Held = Live | Reporting;

interface Live {
  readonly state: "live";
  /** Absent once the server does not know the permit any more, or if it does not end by itself. */
  extendAt: number | undefined;
  readonly ttlMs: number;
  readonly budget: string;
}

interface Reporting {
  readonly state: "reporting";
  report: ReportRequest;
  reporter: Reporter | undefined;
  /** When it is sent again, if it was refused for now. */
  againAt: number | undefined;
  /** Whether it says the outcome alone, since more was refused. */
  bare: boolean;
}

export class Table {
  readonly #waiting = new Map<number, Waiting>();
  /** Requests that the server knows by another number than their own. */
  readonly #renumbered = new Map<number, number>();
  /** Requests that were refused for now, and when they are asked again. */
  readonly #again = new Map<number, number>();
  readonly #permits = new Map<string, Held>();
  readonly #live = new Map<string, number>();
  #reporting = 0;
  /** Cancels that the server has perhaps not seen. */
  readonly #cancelling = new Set<number>();
  #outbox = new Outbox();
  #nextSweep: number | undefined;

  /** `nextNumber` never gives the same twice. */
  constructor(private readonly nextNumber: () => number) {}

  // What the handles want.

  acquire(requestId: number, waiting: Waiting): void {
    this.#waiting.set(requestId, waiting);
    this.#outbox.acquire(requestId);
  }

  /** Gives back what was cancelled, if it was waiting. */
  cancel(requestId: number): Waiting | undefined {
    const waiting = this.#remove(requestId);
    if (waiting?.sent) {
      this.#outbox.cancel(waiting.number);
      this.#remember(waiting.number);
    }
    return waiting;
  }

  report(report: ReportRequest, reporter: Reporter | undefined): void {
    const held = this.#permits.get(report.permitId);
    if (held?.state === "reporting") {
      // The client was closed over the guard's head.
      reporter?.reject(closed());
      return;
    }
    if (held) this.#count(held.budget, -1);
    this.#permits.set(report.permitId, { state: "reporting", report, reporter, againAt: undefined, bare: false });
    this.#reporting += 1;
    this.#outbox.report(report.permitId);
  }

  get waitingCount(): number {
    return this.#waiting.size;
  }

  get isReporting(): boolean {
    return this.#reporting > 0;
  }

  // What the server says.

  /** A new session stands. With `resumed` the server still knows everything; without, nothing. */
  welcome(resumed: boolean, now: number): void {
    this.#outbox = new Outbox();
    this.#again.clear();
    for (const [requestId, waiting] of this.#waiting) {
      this.#outbox.acquire(requestId);
      if (!resumed) waiting.sent = false;
    }
    for (const [permitId, held] of this.#permits) {
      if (held.state === "reporting") {
        held.againAt = undefined;
        this.#outbox.report(permitId);
      }
      // Whatever the last server thought of it, this one is asked.
      else if (held.ttlMs > 0) held.extendAt ??= now;
    }
    if (resumed) for (const requestId of this.#cancelling) this.#outbox.cancel(requestId);
    this.#cancelling.clear();
    this.#nextSweep = now;
  }

  granted(granted: Granted, now: number): void {
    const { permit } = granted;
    if (!permit) return;
    const number = Number(granted.requestId);
    const ttlMs = Math.min(permit.ttl ? millisOf(permit.ttl) : 0, TTL_MS_MAX);
    const held = this.#permits.get(permit.permitId);
    if (held) {
      // Sent again on resume, or with a new end.
      if (held.state === "live") held.extendAt = extension(ttlMs, now);
      return;
    }
    this.#cancelling.delete(number);
    const requestId = this.#renumbered.get(number) ?? number;
    const waiting = this.#waiting.get(requestId);
    if (!waiting) {
      this.report(wireReport(permit.permitId, { outcome: "cancelled" }), undefined);
      return;
    }
    waiting.remaining -= 1;
    if (waiting.remaining === 0) this.#remove(requestId);
    const budget = budgetName(permit.provider, permit.key);
    const extendAt = extension(ttlMs, now);
    this.#permits.set(permit.permitId, { state: "live", extendAt, ttlMs, budget });
    this.#count(budget, 1);
    this.#nextSweep = earlier(this.#nextSweep, extendAt);
    waiting.onGranted({
      permitId: permit.permitId,
      provider: permit.provider,
      key: permit.key,
      charged: permit.charged ?? NOTHING,
      waitedMs: permit.waited ? millisOf(permit.waited) : 0,
      expiresAt: permit.expiresAt && dateOf(permit.expiresAt),
      source: "server",
    });
  }

  /** `draining`: the request stays, for another server, since this one is about to stop. */
  refused(said: Refused, now: number): "told" | "draining" {
    if (said.permitId !== "") {
      this.#permitRefused(said, now);
      return "told";
    }
    const number = Number(said.requestId);
    this.#cancelling.delete(number);
    if (said.reason === "DRAINING") return "draining";
    const requestId = this.#renumbered.get(number) ?? number;
    if (!this.#askAgain(requestId, said, now)) this.#remove(requestId)?.onRefused(refused(said));
    return "told";
  }

  answered(answer: ReportResponse): void {
    this.#settled(answer.permitId)?.resolve(adviceOf(answer));
  }

  // Time.

  /** When {@link sweep} has something to do. */
  get nextSweep(): number | undefined {
    return this.#nextSweep;
  }

  /**
   * Extends the permits of guards that live long, and says again what was refused for now. Everything that is due soon goes along, so that
   * a sweep is seldom: for a permit not more often than eight times in its life.
   */
  sweep(now: number): void {
    if (this.#nextSweep === undefined || now < this.#nextSweep) return;
    this.#nextSweep = undefined;
    for (const [permitId, held] of this.#permits) {
      if (held.state === "reporting") {
        if (held.againAt !== undefined && held.againAt <= now + AGAIN_MS) {
          this.#outbox.report(permitId);
          held.againAt = undefined;
        }
        this.#nextSweep = earlier(this.#nextSweep, held.againAt);
        continue;
      }
      if (held.extendAt !== undefined && held.extendAt <= now + held.ttlMs / 8) {
        this.#outbox.extend(permitId);
        held.extendAt = extension(held.ttlMs, now);
      }
      this.#nextSweep = earlier(this.#nextSweep, held.extendAt);
    }
    for (const [requestId, at] of this.#again) {
      if (at <= now + AGAIN_MS) {
        this.#again.delete(requestId);
        this.#outbox.acquire(requestId);
      } else {
        this.#nextSweep = earlier(this.#nextSweep, at);
      }
    }
  }

  // Going out.

  get hasOutgoing(): boolean {
    return !this.#outbox.isEmpty;
  }

  /** Whatever is ready, within the bounds of one message. */
  message(now: number): SessionRequest | undefined {
    return this.#outbox.message({
      acquire: (requestId) => {
        const waiting = this.#waiting.get(requestId);
        if (!waiting) return undefined;
        waiting.sent = true;
        const { ask, number, remaining, waitMs } = waiting;
        const maxWait = waitMs === undefined ? undefined : durationOf(waitLeft(waiting, now));
        return { ...ask, requestId: BigInt(number), count: remaining, maxWait };
      },
      report: (permitId) => {
        const held = this.#permits.get(permitId);
        return held?.state === "reporting" ? held.report : undefined;
      },
      cancelled: (requestId) => this.#remember(requestId),
    });
  }

  // Without a server.

  /** All that wait, in the order in which they asked. */
  get waiting(): Iterable<[number, Waiting]> {
    return this.#waiting;
  }

  waitingFor(requestId: number): Waiting | undefined {
    return this.#waiting.get(requestId);
  }

  /** Grants a waiting request in the server's place; a server that still has it in its queue is told when it is back. */
  grantWithoutServer(requestId: number, permit: Permit): void {
    const waiting = this.#waiting.get(requestId);
    if (!waiting) return;
    waiting.remaining -= 1;
    if (waiting.remaining === 0) this.cancel(requestId);
    if (permit.source === "local_share") this.#count(budgetName(permit.provider, permit.key), 1);
    waiting.onGranted(permit);
  }

  refuseWithoutServer(requestId: number, error: PermitError): void {
    this.cancel(requestId)?.onRefused(error);
  }

  /** A permit that no server gave was reported. */
  endedWithoutServer(budget: string): void {
    this.#count(budget, -1);
  }

  /** Callers that wait for advice are told that there is none for now; the reports stay. */
  letReportersGo(problem: string): void {
    for (const held of this.#permits.values()) {
      if (held.state !== "reporting") continue;
      held.reporter?.reject(reportKept(problem));
      held.reporter = undefined;
    }
  }

  /** Guards that hold permits of `budget`, whoever gave them. */
  live(budget: string): number {
    return this.#live.get(budget) ?? 0;
  }

  /** Ends everything: what waits is cancelled, what is held is reported as its guard would when it is closed. */
  close(): void {
    for (const requestId of [...this.#waiting.keys()]) this.refuseWithoutServer(requestId, closed());
    for (const [permitId, held] of [...this.#permits]) {
      if (held.state === "live") this.report(wireReport(permitId, { outcome: "failed" }), undefined);
    }
  }

  #permitRefused(said: Refused, now: number): void {
    const held = this.#permits.get(said.permitId);
    const waitMs = passesAfter(said);
    if (held && waitMs !== undefined) {
      if (held.state === "live") held.extendAt = now + waitMs;
      else held.againAt = now + waitMs;
      this.#nextSweep = earlier(this.#nextSweep, now + waitMs);
      return;
    }
    if (held?.state === "live") {
      held.extendAt = undefined;
      return;
    }
    // The refusal of an extension, while the report was on its way.
    if (said.reason === "PERMIT_UNKNOWN") return;
    if (held?.bare) {
      // Even the outcome alone is refused: there is nothing left to say, the permit will expire.
      this.#settled(said.permitId)?.reject(refused(said));
    } else if (held) {
      held.report = bareReport(held.report);
      held.bare = true;
      held.reporter?.reject(refused(said));
      held.reporter = undefined;
      this.#outbox.report(said.permitId);
    }
  }

  /**
   * Lets a request wait on where its refusal passes within the time that it has. The server gets another number for it, since the old one
   * stays refused. False if the caller has to be told.
   */
  #askAgain(requestId: number, said: Refused, now: number): boolean {
    const waiting = this.#waiting.get(requestId);
    const waitMs = passesAfter(said);
    if (!waiting || waitMs === undefined || waitLeft(waiting, now) < waitMs) return false;
    this.#renumbered.delete(waiting.number);
    waiting.number = this.nextNumber();
    waiting.sent = false;
    this.#renumbered.set(waiting.number, requestId);
    this.#again.set(requestId, now + waitMs);
    this.#nextSweep = earlier(this.#nextSweep, now + waitMs);
    return true;
  }

  #remove(requestId: number): Waiting | undefined {
    const waiting = this.#waiting.get(requestId);
    if (!waiting) return undefined;
    this.#waiting.delete(requestId);
    this.#renumbered.delete(waiting.number);
    this.#again.delete(requestId);
    return waiting;
  }

  /** A report is through; gives back who waits for that. */
  #settled(permitId: string): Reporter | undefined {
    const held = this.#permits.get(permitId);
    if (held?.state !== "reporting") return undefined;
    this.#permits.delete(permitId);
    this.#reporting -= 1;
    return held.reporter;
  }

  #remember(requestId: number): void {
    if (this.#cancelling.size < CANCELLING_MAX) this.#cancelling.add(requestId);
  }

  #count(budget: string, change: number): void {
    const count = (this.#live.get(budget) ?? 0) + change;
    if (count > 0) this.#live.set(budget, count);
    else this.#live.delete(budget);
  }
}

const NOTHING: ExactUsage = { other: {} };

/** What is left of the time that the request may wait, in milliseconds. */
function waitLeft({ waitMs, askedAt }: Waiting, now: number): number {
  return waitMs === undefined ? Infinity : waitMs - (now - askedAt);
}

/** When asking again may help, if the refusal passes by itself, such as of a server that can't write to its store. */
function passesAfter({ code, retryAfter }: Refused): number | undefined {
  return code === Number(status.UNAVAILABLE) && retryAfter ? Math.max(millisOf(retryAfter), AGAIN_MS) : undefined;
}

/** Half of its life after `now`. A permit without a life is not extended. */
function extension(ttlMs: number, now: number): number | undefined {
  return ttlMs === 0 ? undefined : now + ttlMs / 2;
}

function earlier(one: number | undefined, other: number | undefined): number | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return Math.min(one, other);
}
