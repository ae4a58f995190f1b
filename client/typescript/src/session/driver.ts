// The heart of a client: it keeps a session open, sends whatever is ready in one message, hands out answers, and stands in for the server,
// by the outage policy, while none can be reached.
import { closed, noLocalShare, noServer, type PermitError, reportKept } from "../errors.js";
import { budgetName, type Permit } from "../permit.js";
import { unsettled } from "../report.js";
import { type LocalPermit, LocalShares } from "../share/shares.js";
import type { ExactUsage } from "../usage.js";
import type { AcquireRequest, ReportRequest } from "../wire/permitd_v1.js";
import type { SessionResponse } from "../wire/permitd_v1.js";
import { Alarm } from "./alarm.js";
import { GOOD_LIFE_MS } from "./backoff.js";
import { Link, type LinkOptions } from "./link.js";
import { type Problem, passing } from "./problem.js";
import { type Reporter, Table } from "./table.js";

/**
 * What becomes of requests while no server can be reached:
 * - `fail_closed`: they fail with a {@link PermitError} of kind `unavailable`.
 * - `fail_open`: they are granted without any limit; their permits have the source `fail_open`.
 * - `local_share`: they are granted from a safe share of the budget that the server sent ahead of time, so that all clients together stay
 *   within the limits. Without a valid share, as `fail_closed`.
 */
export type OutagePolicy = "fail_closed" | "fail_open" | "local_share";

export interface DriverOptions extends LinkOptions {
  readonly outage: OutagePolicy;
  readonly outageAfterMs: number;
}

/** `outage`: the policy holds. */
export type Status = "connecting" | "connected" | "outage" | "closed";

/** Whoever asks for a permit. */
export interface Asker {
  granted(permit: Permit, hold: Hold): void;
  refused(error: PermitError): void;
}

/** Who has to hear of a permit's end. */
export type Hold =
  { readonly by: "server" } | { readonly by: "local"; readonly local: LocalPermit } | { readonly by: "nobody" };

/** How long a server that drains is still given for the answers to reports, in milliseconds. */
const DRAIN_PATIENCE_MS = 500;
/** How long {@link Driver.close} waits for answers to reports, in milliseconds. */
const CLOSE_WAIT_MS = 5_000;

export class Driver {
  readonly #table = new Table(() => this.#nextNumber());
  readonly #link: Link;
  readonly #local: LocalShares;
  readonly #locals = new Map<number, LocalPermit>();
  readonly #alarm = new Alarm(() => this.#onTime());
  readonly #watchers = new Set<() => void>();
  #status: Status = "connecting";
  /** Absent while a session stands. */
  #outageSince: number | undefined = performance.now();
  /** While a session stands that has not proven itself: when it came, and when the time without one had begun. */
  #unproven: { readonly came: number; readonly since: number } | undefined;
  /** The last one; empty until something went wrong. */
  #problem = "";
  /** Definitive problems in a row. */
  #definitive = 0;
  /** When the session with a server that drains is left. */
  #leavesAt: number | undefined;
  #nextRequestId = 1;
  /** Answered in the next turn of the event loop, so that whoever asks again and again does not keep a server from coming back. */
  #askedInOutage: number[] = [];
  #isPumping = false;

  constructor(private readonly options: DriverOptions) {
    this.#link = new Link(options, {
      onUp: (resumed, first) => this.#onUp(resumed, first),
      onResponse: (response) => this.#onResponse(response),
      onWritable: () => this.#pumpSoon(),
      onLost: (problem) => this.#onLost(problem),
    });
    this.#local = new LocalShares(options.tenant, {
      granted: (requestId, permit, local) => {
        this.#locals.set(requestId, local);
        this.#table.grantWithoutServer(requestId, permit);
        // The share gives one permit at a time.
        if (!this.#table.waitingFor(requestId)) return;
        this.#askedInOutage.push(requestId);
        this.#pumpSoon();
      },
      refused: (requestId, error) => this.#table.refuseWithoutServer(requestId, error),
      live: (budget) => this.#table.live(budget),
    });
    this.#link.dial();
    this.#rearm();
  }

  get status(): Status {
    return this.#status;
  }

  /** For people: what went wrong last. */
  get problem(): string {
    return this.#problem;
  }

  /** Resolves at the next change of {@link status}. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#watchers.add(resolve));
  }

  /** Requests without an answer. */
  get waitingCount(): number {
    return this.#table.waitingCount;
  }

  acquire(ask: AcquireRequest, waitMs: number | undefined, askedAt: number, asker: Asker): number {
    const requestId = this.#nextNumber();
    if (this.#status === "closed") {
      asker.refused(closed());
      return requestId;
    }
    const onGranted = (permit: Permit) => asker.granted(permit, this.#holdOf(requestId, permit));
    const onRefused = (error: PermitError) => asker.refused(error);
    const state = { number: requestId, remaining: ask.count, sent: false };
    this.#table.acquire(requestId, { ask, waitMs, askedAt, onGranted, onRefused, ...state });
    if (this.#status === "outage") this.#askedInOutage.push(requestId);
    this.#pumpSoon();
    return requestId;
  }

  /** Nobody waits any more: a grant that still comes goes back unused. */
  cancel(requestId: number): void {
    this.#table.cancel(requestId);
    this.#local.cancel(requestId, nanos());
    this.#pumpSoon();
  }

  /** Settles a permit; `reporter` hears the advice. */
  report(permit: Permit, hold: Hold, report: ReportRequest, reporter: Reporter | undefined): void {
    if (hold.by === "nobody") {
      reporter?.resolve(unsettled(report));
    } else if (hold.by === "local") {
      this.#table.endedWithoutServer(hold.local.budget);
      reporter?.resolve(this.#local.report(hold.local, report, nanos()));
    } else if (this.#status === "closed") {
      reporter?.reject(closed());
    } else {
      const isOutage = this.#status === "outage";
      this.#table.report(report, isOutage ? undefined : reporter);
      if (isOutage) {
        reporter?.reject(reportKept(this.#problem));
        this.#local.ended(budgetName(permit.provider, permit.key), nanos());
      }
    }
    this.#pumpSoon();
  }

  /** Ends politely: reports that are on their way are answered first, within {@link CLOSE_WAIT_MS}. */
  async close(): Promise<void> {
    if (this.#status === "closed") return;
    const wasOutage = this.#status === "outage";
    this.#table.close();
    this.#become("closed");
    if (!wasOutage) await this.#saidAll();
    this.#alarm.clear();
    this.#table.letReportersGo("the client was closed");
    await this.#link.end();
  }

  async #saidAll(): Promise<void> {
    const until = performance.now() + CLOSE_WAIT_MS;
    while (this.#table.isReporting && this.#outageSince === undefined && performance.now() < until) {
      this.#pumpSoon();
      const timer = setTimeout(() => this.#changed(), until - performance.now());
      await this.changed();
      clearTimeout(timer);
    }
  }

  #nextNumber(): number {
    const number = this.#nextRequestId;
    this.#nextRequestId += 1;
    return number;
  }

  // Going out. Everything that is asked or reported in one turn of the event loop goes along in one message.

  #pumpSoon(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    setImmediate(() => {
      this.#isPumping = false;
      const asked = this.#askedInOutage;
      this.#askedInOutage = [];
      if (this.#status === "outage") for (const requestId of asked) this.#answerWithoutServer(requestId);
      if (this.#link.isWritable && this.#table.hasOutgoing) {
        const message = this.#table.message(performance.now());
        if (message) this.#link.send(message);
      }
      this.#rearm();
    });
  }

  // The server.

  /** It has to answer something, or to live for a while, before the time without a session is forgotten. */
  #onUp(resumed: boolean, first: SessionResponse): void {
    const came = performance.now();
    this.#unproven = this.#outageSince === undefined ? undefined : { came, since: this.#outageSince };
    this.#outageSince = undefined;
    this.#definitive = 0;
    this.#problem = "";
    this.#leavesAt = undefined;
    this.#local.leave();
    this.#table.welcome(resumed, performance.now());
    this.#become("connected");
    this.#onResponse(first);
  }

  #onResponse(response: SessionResponse): void {
    const now = performance.now();
    if (response.granted.length + response.refused.length + response.reported.length > 0) this.#unproven = undefined;
    for (const granted of response.granted) this.#table.granted(granted, now);
    for (const said of response.refused) {
      if (this.#table.refused(said, now) === "draining") this.#leavesAt ??= now + DRAIN_PATIENCE_MS;
    }
    for (const answer of response.reported) this.#table.answered(answer);
    if (this.options.outage === "local_share") {
      for (const share of response.shares) this.#local.learn(share, nanos());
    }
    if (this.#leavesAt !== undefined && !this.#table.isReporting) this.#leave();
    if (this.#status === "closed") this.#changed();
    this.#pumpSoon();
  }

  /** The server is about to stop. */
  #leave(): void {
    this.#onLost({ ...passing("is about to stop"), elsewhere: true });
  }

  /** No session: either one broke or an attempt failed. */
  #onLost(problem: Problem): void {
    this.#leavesAt = undefined;
    const now = performance.now();
    // A server that welcomes and parts, again and again, and answers nothing, is none.
    const isShaky = this.#unproven && now - this.#unproven.came < GOOD_LIFE_MS;
    this.#outageSince ??= isShaky ? this.#unproven?.since : now;
    this.#unproven = undefined;
    this.#definitive = problem.definitive ? this.#definitive + 1 : 0;
    this.#problem = problem.text;
    this.#link.retry(problem);
    if (this.#status === "connected") this.#become("connecting");
    if (this.#definitive >= this.options.endpoints.length) this.#beginOutage();
    if (this.#status === "closed") this.#changed();
    this.#rearm();
  }

  // In the server's place.

  #beginOutage(): void {
    if (this.#status !== "connecting") return;
    this.#become("outage");
    this.#table.letReportersGo(this.#problem);
    for (const [requestId] of [...this.#table.waiting]) this.#answerWithoutServer(requestId);
  }

  #answerWithoutServer(requestId: number): void {
    const waiting = this.#table.waitingFor(requestId);
    if (!waiting) return;
    const { ask } = waiting;
    if (this.options.outage === "fail_closed") {
      this.#table.refuseWithoutServer(requestId, noServer(this.#problem));
    } else if (this.options.outage === "fail_open") {
      while (waiting.remaining > 0) this.#table.grantWithoutServer(requestId, unmanaged(ask, waiting.askedAt));
    } else {
      const left = waiting.waitMs === undefined ? undefined : waiting.waitMs - (performance.now() - waiting.askedAt);
      if (!this.#local.acquire(requestId, ask, left && Math.max(0, left), nanos())) {
        const error = noLocalShare(budgetName(ask.provider, ask.key), this.#problem);
        this.#table.refuseWithoutServer(requestId, error);
      }
    }
  }

  #holdOf(requestId: number, { source }: Permit): Hold {
    if (source === "server") return { by: "server" };
    const local = this.#locals.get(requestId);
    this.#locals.delete(requestId);
    return local ? { by: "local", local } : { by: "nobody" };
  }

  // Time.

  #onTime(): void {
    const now = performance.now();
    if (this.#link.isUp) {
      this.#table.sweep(now);
      if (this.#leavesAt !== undefined && this.#leavesAt <= now) this.#leave();
    } else if ((this.#outageBegins() ?? Infinity) <= now) {
      this.#beginOutage();
    }
    if (this.#status === "outage") this.#local.poll(nanos(), this.#problem);
    this.#pumpSoon();
  }

  /** The next moment at which something has to be done unasked. */
  #rearm(): void {
    if (this.#status === "closed") return;
    const times = [this.#leavesAt, this.#outageBegins()];
    if (this.#link.isUp) times.push(this.#table.nextSweep);
    if (this.#status === "outage") times.push(millis(this.#local.nextPoll));
    const known = times.filter((time) => time !== undefined);
    this.#alarm.set(known.length > 0 ? Math.min(...known) : undefined);
  }

  /** Not before an attempt has failed: however slow this process is, nobody says that no server can be reached without having tried. */
  #outageBegins(): number | undefined {
    if (this.#status !== "connecting" || this.#outageSince === undefined || this.#problem === "") return undefined;
    return this.#outageSince + this.options.outageAfterMs;
  }

  #become(status: Status): void {
    // Closed is for good.
    if (this.#status === "closed") return;
    this.#status = status;
    this.#changed();
  }

  #changed(): void {
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    for (const watcher of watchers) watcher();
  }
}

function unmanaged(ask: AcquireRequest, askedAt: number): Permit {
  const charged: ExactUsage = ask.estimate ?? { tokens: ask.tokens || undefined, other: {} };
  const waitedMs = performance.now() - askedAt;
  const { provider, key } = ask;
  return { permitId: "", provider, key, charged, waitedMs, expiresAt: undefined, source: "fail_open" };
}

/** The shares' clock. */
function nanos(): bigint {
  return BigInt(Math.round(performance.now() * 1e6));
}

/** The same moment by `performance.now()`, rounded up, so that nobody comes too early. */
function millis(moment: bigint | undefined): number | undefined {
  return moment === undefined ? undefined : Number(moment + 1_000n) / 1e6;
}
