// The safe shares that the server sends ahead of time, and what is granted from them while no server can be reached.
//
// Invariant: a share never adds to what the server may just have granted. Rate limits start empty, and permits that are still held from
// before the outage count against the share's concurrency.
import { millisOf } from "../convert.js";
import { noLocalShare } from "../errors.js";
import { budgetName, type Permit } from "../permit.js";
import { type Advice, unsettled } from "../report.js";
import type { AcquireRequest, ReportRequest } from "../wire/permitd_v1.js";
import type { LocalShare } from "../wire/permitd_v1.js";
import { type Meter, meterOf } from "./meter.js";
import { Share, type ShareEvents, type SharePermit } from "./share.js";

/** Shares that are kept; more than a client uses in practice. */
const SHARES_MAX = 10_000;
/** Longer than any outage through which a share should be trusted, in milliseconds. */
const VALID_MS_MAX = 7 * 86_400_000;
/** Limits of one budget: the server's bound. */
const LIMITS_MAX = 128;

/** A permit of the local share, for its guard. */
export interface LocalPermit {
  readonly budget: string;
  readonly share: Share;
  readonly permit: SharePermit;
}

export interface LocalEvents {
  granted(requestId: number, permit: Permit, local: LocalPermit): void;
  refused(requestId: number, error: ReturnType<typeof noLocalShare>): void;
  /** Guards that hold permits of a budget, whoever gave them. */
  live(budget: string): number;
}

interface Known {
  readonly said: LocalShare;
  readonly validUntil: bigint;
  running: Share | undefined;
}

export class LocalShares {
  readonly #shares = new Map<string, Known>();
  /** Where requests wait. */
  readonly #waiting = new Map<number, Share>();

  constructor(
    private readonly tenant: string,
    private readonly events: LocalEvents,
  ) {}

  /** The server's newest word. A share that makes no sense, or is none, takes away what was known. */
  learn(said: LocalShare, now: bigint): void {
    const name = budgetName(said.provider, said.key);
    const validMs = said.validFor ? Math.min(millisOf(said.validFor), VALID_MS_MAX) : 0;
    const isSound = said.limits.length > 0 && said.limits.length <= LIMITS_MAX && this.#meters(name, said, now);
    const hasRoom = this.#shares.size < SHARES_MAX || this.#shares.has(name);
    if (isSound && validMs > 0 && hasRoom) {
      this.#shares.set(name, { said, validUntil: now + BigInt(Math.round(validMs * 1e6)), running: undefined });
    } else {
      this.#shares.delete(name);
    }
  }

  /** Asks in the server's place. Answers may be for other requests too. False: there is no valid share of this budget. */
  acquire(requestId: number, request: AcquireRequest, waitMs: number | undefined, now: bigint): boolean {
    const name = budgetName(request.provider, request.key);
    const known = this.#shares.get(name);
    if (!known || known.validUntil <= now) return false;
    known.running ??= this.#start(name, known.said, now);
    this.#waiting.set(requestId, known.running);
    known.running.acquire(requestId, request, waitMs, now);
    return true;
  }

  /** Somebody does not wait any more. */
  cancel(requestId: number, now: bigint): void {
    const share = this.#waiting.get(requestId);
    this.#waiting.delete(requestId);
    share?.cancel(requestId, now);
  }

  /** Settles a permit of this or an earlier outage. */
  report({ budget, share, permit }: LocalPermit, report: ReportRequest, now: bigint): Advice {
    if (this.#shares.get(budget)?.running === share) return share.report(permit, report, now);
    this.ended(budget, now);
    return unsettled(report);
  }

  /** A permit from before this outage was reported: its slot is free. */
  ended(budget: string, now: bigint): void {
    this.#shares.get(budget)?.running?.poll(now);
  }

  /** Grants what has become possible, and ends shares that are not valid any more. */
  poll(now: bigint, problem: string): void {
    for (const [name, known] of this.#running()) {
      if (known.validUntil > now) {
        if (known.running.nextPoll !== undefined && known.running.nextPoll <= now) known.running.poll(now);
        continue;
      }
      this.#shares.delete(name);
      for (const requestId of known.running.end()) {
        this.#waiting.delete(requestId);
        this.events.refused(requestId, noLocalShare(name, problem));
      }
    }
  }

  /** When {@link poll} has something to do. */
  get nextPoll(): bigint | undefined {
    let next: bigint | undefined;
    for (const [, { validUntil, running }] of this.#running()) {
      for (const time of [validUntil, running.nextPoll]) {
        if (time !== undefined && (next === undefined || time < next)) next = time;
      }
    }
    return next;
  }

  /** A server is back: nothing more is granted, and who waits here waits there again. */
  leave(): void {
    this.#waiting.clear();
    for (const known of this.#shares.values()) {
      known.running?.end();
      known.running = undefined;
    }
  }

  *#running(): Iterable<[string, Known & { running: Share }]> {
    for (const [name, known] of this.#shares) if (known.running) yield [name, known as Known & { running: Share }];
  }

  #start(name: string, said: LocalShare, now: bigint): Share {
    const events: ShareEvents = {
      granted: (requestId, permit) => {
        this.#waiting.delete(requestId);
        const { requests, inputTokens, outputTokens, other } = permit.charge;
        const charged = { requests, tokens: inputTokens + outputTokens, inputTokens, outputTokens, other };
        const { provider, key } = said;
        const { waitedMs } = permit;
        const source = "local_share";
        const shown: Permit = { permitId: "", provider, key, charged, waitedMs, expiresAt: undefined, source };
        this.events.granted(requestId, shown, { budget: name, share, permit });
      },
      refused: (requestId, error) => {
        this.#waiting.delete(requestId);
        this.events.refused(requestId, error);
      },
    };
    const share = new Share(this.#meters(name, said, now) ?? [], this.tenant, events);
    return share;
  }

  /** Absent if one of the limits makes no sense. */
  #meters(name: string, said: LocalShare, now: bigint): Meter[] | undefined {
    const meters = said.limits.map((limit) => meterOf(limit, () => this.events.live(name), now));
    return meters.every((meter) => meter !== undefined) ? meters : undefined;
  }
}
