// Amounts per unit: what is expected when asking, what was used when reporting. They go out as they are, to the last digit of 64 bits.
import { invalid } from "./errors.js";
import type { Usage as WireUsage } from "./wire/permitd_v1.js";

/** A whole amount, at least 0 and below 2^64. Above `Number.MAX_SAFE_INTEGER`, write a `bigint`: a `number` has lost digits there. */
export type Amount = number | bigint;

/** Amounts per unit. Absent means "unknown" when asking and "as charged" in a report. */
export interface Usage {
  /** Calls; absent means 1. */
  readonly requests?: Amount | undefined;
  /** Input and output together; but alone when asking it is the input, and what comes out is learned and charged on top. */
  readonly tokens?: Amount | undefined;
  /** What goes into the model. */
  readonly inputTokens?: Amount | undefined;
  /** What comes out of the model. */
  readonly outputTokens?: Amount | undefined;
  /** When asking: a bound on the output. */
  readonly maxOutputTokens?: Amount | undefined;
  /** In reports: the part of the input that the provider read from its cache. */
  readonly cachedInputTokens?: Amount | undefined;
  /** Further units by name, for example `points` or `usd_micros`. */
  readonly other?: Readonly<Record<string, Amount>> | undefined;
}

/** Amounts as the server told them: always exact. */
export interface ExactUsage {
  readonly requests?: bigint | undefined;
  readonly tokens?: bigint | undefined;
  readonly inputTokens?: bigint | undefined;
  readonly outputTokens?: bigint | undefined;
  readonly maxOutputTokens?: bigint | undefined;
  readonly cachedInputTokens?: bigint | undefined;
  readonly other: Readonly<Record<string, bigint>>;
}

/** Further units in one usage, and bytes in a unit's name: the server's bounds. */
const OTHER_UNITS_MAX = 16;
const UNIT_BYTES_MAX = 256;

const AMOUNT_MAX = 2n ** 64n - 1n;

/** Throws an error that names the field for what is no amount. */
export function exactAmount(field: string, amount: Amount): bigint {
  if (typeof amount === "bigint") {
    if (amount < 0n || amount > AMOUNT_MAX) throw invalid(field, `${amount} is outside 0 to 2^64 - 1`);
    return amount;
  }
  if (typeof amount !== "number" || !Number.isSafeInteger(amount) || amount < 0) {
    throw invalid(field, `${String(amount)} is no whole amount; write an integer, above 2^53 as a bigint`);
  }
  return BigInt(amount);
}

/** In the wire's form; absent if nothing is said. */
export function wireUsage(field: string, usage: Usage): WireUsage | undefined {
  const exact = (name: keyof Omit<Usage, "other">) => {
    const amount = usage[name];
    return amount === undefined ? undefined : exactAmount(`${field}.${name}`, amount);
  };
  const units = Object.entries(usage.other ?? {});
  const badName = ([unit]: [string, Amount]) => unit === "" || Buffer.byteLength(unit) > UNIT_BYTES_MAX;
  if (units.length > OTHER_UNITS_MAX || units.some(badName)) {
    const problem = `at most ${OTHER_UNITS_MAX} further units with names of 1 to ${UNIT_BYTES_MAX} bytes`;
    throw invalid(`${field}.other`, problem);
  }
  const named = {
    requests: exact("requests"),
    tokens: exact("tokens"),
    inputTokens: exact("inputTokens"),
    outputTokens: exact("outputTokens"),
    maxOutputTokens: exact("maxOutputTokens"),
    cachedInputTokens: exact("cachedInputTokens"),
  };
  if (units.length === 0 && Object.values(named).every((amount) => amount === undefined)) return undefined;
  const other = units.map(([unit, amount]) => [unit, exactAmount(`${field}.other.${unit}`, amount)] as const);
  return { ...named, other: Object.fromEntries(other) };
}
