// One budget's local share in use: grants in the order of asking, never more than its limits hold. Pure: it is told the time, in
// nanoseconds of a clock that only goes forward.
//
// Invariant: a permit takes from every limit that it touches or from none, and nobody passes someone ahead who needs a limit of theirs.
import { durationOf } from "../convert.js";
import { PermitError } from "../errors.js";
import { least } from "../exact.js";
import type { Advice } from "../report.js";
import { outcomeOf } from "../report.js";
import type { AcquireRequest, ReportRequest } from "../wire/permitd_v1.js";
import { Outcome } from "../wire/permitd_v1.js";
import { amountOf, type Charge, chargeOf, settle } from "./charge.js";
import { matches } from "./glob.js";
import { type Meter, nanosOf, type Taken } from "./meter.js";

/** What became of requests. */
export interface ShareEvents {
  granted(requestId: number, permit: SharePermit): void;
  refused(requestId: number, error: PermitError): void;
}

/** What a permit of this share holds. */
export interface SharePermit {
  readonly charge: Charge;
  readonly taken: readonly Taken[];
  readonly waitedMs: number;
}

interface Waiting {
  readonly requestId: number;
  readonly charge: Charge;
  readonly needs: readonly { meter: Meter; units: bigint }[];
  readonly askedAt: bigint;
  readonly until: bigint | undefined;
}

const SECOND = 1_000_000_000n;
/** Where no wait is given: 1 s, then twice as long for each further refusal in a row, up to this. */
const WAIT_MAX = 60n * SECOND;
/** No wait is longer. */
const FREEZE_MAX = 86_400n * SECOND;

export class Share {
  readonly #waiting = new Map<number, Waiting>();
  #frozenUntil = 0n;
  #refusals = 0;
  /** The first moment at which somebody could go or gives up. */
  nextPoll: bigint | undefined;

  constructor(
    readonly meters: readonly Meter[],
    private readonly tenant: string,
    private readonly events: ShareEvents,
  ) {}

  acquire(requestId: number, request: AcquireRequest, waitMs: number | undefined, now: bigint): void {
    const charge = chargeOf(request.tokens, request.estimate);
    const tenant = request.tenant || this.tenant || "default";
    const touched = this.meters.filter(
      (meter) => matches(meter.models, request.model) && matches(meter.tenants, tenant),
    );
    const needs = touched.map((meter) => ({ meter, units: amountOf(charge, meter.unit) }));
    const until = waitMs === undefined ? undefined : now + nanosOf(durationOf(waitMs));
    const waiting: Waiting = { requestId, charge, needs, askedAt: now, until };
    const refusal = hopeless(waiting, this.#frozenUntil, now);
    if (refusal) {
      this.events.refused(requestId, refusal);
      return;
    }
    this.#waiting.set(requestId, waiting);
    // Who touches no limit waits for nobody.
    if (needs.length > 0 || !this.#grant(waiting, now)) this.poll(now);
  }

  cancel(requestId: number, now: bigint): void {
    if (this.#waiting.delete(requestId)) this.poll(now);
  }

  report(permit: SharePermit, report: ReportRequest, now: bigint): Advice {
    const outcome = outcomeRead(report);
    const used = outcome === Outcome.CANCELLED ? undefined : settle(permit.charge, report);
    for (const taken of permit.taken) taken.settle(used ? amountOf(used, taken.meter.unit) : 0n, now);
    const told = report.retryAfter && nanosOf(report.retryAfter);
    const holdsBack = HOLDING_BACK.has(outcome);
    if (outcome === Outcome.SUCCESS) this.#refusals = 0;
    if (holdsBack) this.#freeze(told, now);
    this.poll(now);
    const retry = holdsBack || (outcome === Outcome.FAILED && isWorthAnother(report.httpStatus));
    return {
      outcome: outcomeOf(outcome),
      settled: true,
      retry,
      retryAfterMs: told === undefined ? undefined : Number(told) / 1e6,
    };
  }

  /** Grants what has become possible, and refuses whose time is over. */
  poll(now: bigint): void {
    this.nextPoll = undefined;
    for (const waiting of this.#waiting.values()) {
      if (waiting.until === undefined) continue;
      if (waiting.until < now) {
        this.#waiting.delete(waiting.requestId);
        this.events.refused(waiting.requestId, notInTime(waiting, now));
      } else this.#wakeAt(waiting.until + 1n);
    }
    if (this.#frozenUntil > now) {
      if (this.#waiting.size > 0) this.#wakeAt(this.#frozenUntil);
      return;
    }
    const reserved = new Set<Meter>();
    for (const waiting of this.#waiting.values()) {
      if (reserved.size === this.meters.length) break;
      if (waiting.needs.some(({ meter }) => reserved.has(meter)) || !this.#grant(waiting, now)) {
        for (const { meter } of waiting.needs) reserved.add(meter);
      }
    }
  }

  /** Ends it: whoever waits here is handed back. */
  end(): number[] {
    const left = [...this.#waiting.keys()];
    this.#waiting.clear();
    this.nextPoll = undefined;
    return left;
  }

  #grant(waiting: Waiting, now: bigint): boolean {
    const at = latest(waiting.needs.map(({ meter, units }) => meter.fitsAt(units, now)));
    // Without a moment, the end of another permit wakes it.
    if (at === undefined) return false;
    if (at > now) {
      this.#wakeAt(at);
      return false;
    }
    this.#waiting.delete(waiting.requestId);
    const taken = waiting.needs.map(({ meter, units }) => meter.take(units, now));
    const waitedMs = Number(now - waiting.askedAt) / 1e6;
    this.events.granted(waiting.requestId, { charge: waiting.charge, taken, waitedMs });
    return true;
  }

  #freeze(told: bigint | undefined, now: bigint): void {
    const guessed = SECOND << BigInt(Math.min(this.#refusals, 6));
    const wait = told ?? least(guessed, WAIT_MAX);
    const until = now + least(wait, FREEZE_MAX);
    this.#refusals += 1;
    if (until > this.#frozenUntil) this.#frozenUntil = until;
  }

  #wakeAt(at: bigint): void {
    if (this.nextPoll === undefined || at < this.nextPoll) this.nextPoll = at;
  }
}

/** Outcomes after which nothing is granted for a while. */
const HOLDING_BACK = new Set([
  Outcome.RATE_LIMITED,
  Outcome.CONCURRENCY_LIMITED,
  Outcome.OVERLOADED,
  Outcome.ACCELERATION_LIMITED,
]);

/** A share has no profile: what is not said outright is read from the status alone. */
function outcomeRead({ outcome, httpStatus }: ReportRequest): Outcome {
  if (outcome !== Outcome.UNSPECIFIED) return outcome;
  if (httpStatus < 400) return Outcome.SUCCESS;
  if (httpStatus === 429) return Outcome.RATE_LIMITED;
  if (httpStatus === 503 || httpStatus === 529) return Outcome.OVERLOADED;
  return httpStatus === 413 ? Outcome.TOO_LARGE : Outcome.FAILED;
}

/** Every 4xx would fail again, but for a timeout; without a status it was a timeout or a connection that broke. */
function isWorthAnother(httpStatus: number): boolean {
  return httpStatus === 408 || httpStatus < 400 || httpStatus > 499;
}

/** Why a request can't be granted even if it were alone, if it can't. */
function hopeless(waiting: Waiting, frozenUntil: bigint, now: bigint): PermitError | undefined {
  const tooLarge = waiting.needs.find(({ meter, units }) => units > meter.capacity);
  if (tooLarge) {
    const { meter, units } = tooLarge;
    const message = `asks for ${units} of ${meter.name}, which never holds more than ${meter.capacity}; split the request`;
    return refusal("OUT_OF_RANGE", "LARGER_THAN_LIMIT", message, meter.name);
  }
  if (waiting.until === undefined) return undefined;
  const times = waiting.needs.map(({ meter, units }) => meter.fitsAt(units, now) ?? now);
  const at = latest([...times, frozenUntil]) ?? now;
  return at > waiting.until || (waiting.until === now && !fitsNow(waiting, now)) ? notInTime(waiting, now) : undefined;
}

function fitsNow(waiting: Waiting, now: bigint): boolean {
  return waiting.needs.every(({ meter, units }) => meter.fitsAt(units, now) === now);
}

function notInTime(waiting: Waiting, now: bigint): PermitError {
  const fits = waiting.needs.map(({ meter, units }) => ({ meter, at: meter.fitsAt(units, now) }));
  const at = latest(fits.map((fit) => fit.at));
  // The one that binds: of which nobody knows when it fits, or else the last.
  const short = fits.find((fit) => fit.at === at && at !== now)?.meter;
  const message = `not in time: ${short ? `${short.name} is short` : "others are ahead"}; wait longer, or try again later`;
  return refusal(
    "RESOURCE_EXHAUSTED",
    "NOT_IN_TIME",
    message,
    short?.name,
    at === undefined ? undefined : Number(at - now) / 1e6,
  );
}

function refusal(code: string, reason: string, message: string, limit?: string, retryAfterMs?: number): PermitError {
  const whose = `${message} (from this client's local share: no permitd server can be reached)`;
  return new PermitError({ kind: "refused", code, reason, message: whose, limit, retryAfterMs });
}

/** Absent if one of them is. */
function latest(times: readonly (bigint | undefined)[]): bigint | undefined {
  let last = 0n;
  for (const time of times) {
    if (time === undefined) return undefined;
    if (time > last) last = time;
  }
  return last;
}
