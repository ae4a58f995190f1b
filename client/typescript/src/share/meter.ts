// How one limit of a local share counts: exactly, in integers, told the time in nanoseconds of a clock that only goes forward. Each starts
// as if everything had just been taken, since the server may have granted all of it a moment ago.
import { least, most } from "../exact.js";
import type { Duration } from "../wire/google_protobuf.js";
import { type Limit, Window } from "../wire/permitd_v1.js";

/** What a permit took from a meter, to be corrected when it is reported. */
export interface Taken {
  readonly meter: Meter;
  readonly units: bigint;
  /** Replaces what was taken by what was used. */
  settle(used: bigint, now: bigint): void;
}

export interface Meter {
  /** As in `tokens/1m model=claude-*`. */
  readonly name: string;
  readonly unit: string;
  /** Globs; empty matches all. */
  readonly models: string;
  readonly tenants: string;
  /** More than this never fits. */
  readonly capacity: bigint;
  /** When so much fits, if nothing else is taken; absent where no clock tells. */
  fitsAt(units: bigint, now: bigint): bigint | undefined;
  take(units: bigint, now: bigint): Taken;
}

const SECOND = 1_000_000_000n;
const NANOS_PER_DAY = 86_400n * SECOND;
/** The longest window that the wire allows. */
const PER_MAX = 366n * NANOS_PER_DAY;
/** What was taken within such a part of a window leaves together, so that its list is bounded. */
const PARTS = 1_024n;

/**
 * A limit as it is enforced here, on the safe side: one for each tenant becomes one for all tenants of this client, a phase is not known,
 * so that a fixed window is enforced as a sliding one, which holds for every phase. Absent for what makes no sense.
 */
export function meterOf(limit: Limit, inFlight: () => number, now: bigint): Meter | undefined {
  if (limit.amount < 1n || limit.unit === "") return undefined;
  if (limit.unit === "in_flight") return new InFlight(limit.amount, inFlight);
  const per = limit.per ? nanosOf(limit.per) : 0n;
  if (per <= 0n || per > PER_MAX) return undefined;
  const tenants = limit.tenants === "each" ? "" : limit.tenants;
  const about = { name: nameOf(limit), unit: limit.unit, models: limit.models, tenants };
  switch (limit.window) {
    case Window.FIXED:
    case Window.SLIDING:
      return new Sliding(about, limit.amount, per, now);
    case Window.QUANTISED: {
      const quantum = limit.quantum ? nanosOf(limit.quantum) : SECOND;
      return quantum > 0n ? new Sliding(about, (limit.amount * quantum) / per, quantum, now) : undefined;
    }
    default:
      return new Bucket(about, limit.amount, limit.burst || limit.amount, per, now);
  }
}

interface About {
  readonly name: string;
  readonly unit: string;
  readonly models: string;
  readonly tenants: string;
}

/** Refills continuously. A unit is as many parts as the window has nanoseconds, so that nothing is rounded. */
class Bucket implements Meter {
  readonly name: string;
  readonly unit: string;
  readonly models: string;
  readonly tenants: string;
  #level = 0n;
  #at: bigint;

  constructor(
    about: About,
    readonly amount: bigint,
    readonly capacity: bigint,
    readonly per: bigint,
    now: bigint,
  ) {
    ({ name: this.name, unit: this.unit, models: this.models, tenants: this.tenants } = about);
    this.#at = now;
  }

  fitsAt(units: bigint, now: bigint): bigint {
    this.#refill(now);
    const missing = units * this.per - this.#level;
    return missing <= 0n ? now : now + (missing + this.amount - 1n) / this.amount;
  }

  take(units: bigint, now: bigint): Taken {
    this.#change(-units, now);
    return { meter: this, units, settle: (used, at) => this.#change(units - used, at) };
  }

  #change(units: bigint, now: bigint): void {
    this.#refill(now);
    const level = this.#level + units * this.per;
    // Debt is at most one window's amount, so that an absurd number cannot stop it for good.
    const floor = -this.amount * this.per;
    this.#level = least(most(level, floor), this.capacity * this.per);
  }

  #refill(now: bigint): void {
    if (now <= this.#at) return;
    this.#level = least(this.#level + (now - this.#at) * this.amount, this.capacity * this.per);
    this.#at = now;
  }
}

/** Never more than its capacity in any stretch of the window. */
class Sliding implements Meter {
  readonly name: string;
  readonly unit: string;
  readonly models: string;
  readonly tenants: string;
  /** Oldest first. */
  readonly #entries: { until: bigint; units: bigint }[];
  #used: bigint;

  constructor(
    about: About,
    readonly capacity: bigint,
    readonly per: bigint,
    now: bigint,
  ) {
    ({ name: this.name, unit: this.unit, models: this.models, tenants: this.tenants } = about);
    this.#entries = [{ until: now + per, units: capacity }];
    this.#used = capacity;
  }

  fitsAt(units: bigint, now: bigint): bigint | undefined {
    this.#forget(now);
    let free = this.capacity - this.#used;
    if (units <= free) return now;
    for (const entry of this.#entries) {
      free += entry.units;
      if (units <= free) return entry.until;
    }
    return undefined;
  }

  take(units: bigint, now: bigint): Taken {
    this.#forget(now);
    const until = now + this.per;
    let entry = this.#entries.at(-1);
    if (entry && until - entry.until < this.per / PARTS) entry.until = until;
    else {
      entry = { until, units: 0n };
      this.#entries.push(entry);
    }
    const mine = entry;
    mine.units += units;
    this.#used += units;
    const settle = (used: bigint, at: bigint) => {
      this.#forget(at);
      // What has left the window does not count any more.
      if (mine.until <= at) return;
      const change = least(used, units + this.capacity) - units;
      mine.units += change;
      this.#used += change;
    };
    return { meter: this, units, settle };
  }

  #forget(now: bigint): void {
    let gone = 0;
    for (const entry of this.#entries) {
      if (entry.until > now) break;
      this.#used -= entry.units;
      gone += 1;
    }
    if (gone > 0) this.#entries.splice(0, gone);
  }
}

/** So many at once, counting all guards of the budget, also those that a server granted before. */
class InFlight implements Meter {
  readonly name = "in_flight";
  readonly unit = "in_flight";
  readonly models = "";
  readonly tenants = "";

  constructor(
    readonly capacity: bigint,
    readonly inFlight: () => number,
  ) {}

  fitsAt(units: bigint, now: bigint): bigint | undefined {
    return BigInt(this.inFlight()) + units <= this.capacity ? now : undefined;
  }

  take(units: bigint): Taken {
    return { meter: this, units, settle: () => {} };
  }
}

export function nanosOf(span: Duration): bigint {
  return span.seconds * SECOND + BigInt(span.nanos);
}

function nameOf(limit: Limit): string {
  const models = limit.models && ` model=${limit.models}`;
  const tenants = limit.tenants && ` tenant=${limit.tenants}`;
  return `${limit.unit}/${windowOf(limit.per ? nanosOf(limit.per) : 0n)}${models}${tenants}`;
}

/** As permitd writes windows: `1m`, `30s`, `250ms`. */
function windowOf(per: bigint): string {
  const units: [bigint, string][] = [
    [NANOS_PER_DAY, "d"],
    [3_600n * SECOND, "h"],
    [60n * SECOND, "m"],
    [SECOND, "s"],
    [1_000_000n, "ms"],
  ];
  const [size, unit] = units.find(([size]) => per % size === 0n) ?? [1n, "ns"];
  return `${per / size}${unit}`;
}
