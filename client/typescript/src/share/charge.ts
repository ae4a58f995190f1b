// What a request takes and a report settles, in every unit: the server's rules for usage, without a provider's profile.
import { least } from "../exact.js";
import type { ReportRequest, Usage } from "../wire/permitd_v1.js";

/** What a permit holds. */
export interface Charge {
  readonly requests: bigint;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  readonly other: Readonly<Record<string, bigint>>;
}

/** `tokens` alone is the input; an output that is left open is its bound, since no history is kept here. */
export function chargeOf(tokens: bigint, usage: Usage | undefined): Charge {
  const total = usage?.tokens ?? (tokens || undefined);
  const { inputTokens: input, outputTokens: output } = usage ?? {};
  const isOpen = total === undefined || input === undefined;
  return {
    requests: usage?.requests ?? 1n,
    inputTokens: input ?? less(total ?? 0n, output ?? 0n),
    outputTokens: output ?? (isOpen ? (usage?.maxOutputTokens ?? 0n) : less(total, input)),
    other: usage?.other ?? {},
  };
}

/** What was used; what the report leaves out was used as charged. */
export function settle(charge: Charge, { actual }: ReportRequest): Charge {
  if (!actual) return charge;
  const { tokens: total, inputTokens: input, outputTokens: output } = actual;
  const known = {
    requests: actual.requests ?? charge.requests,
    inputTokens: input ?? charge.inputTokens,
    outputTokens: output ?? charge.outputTokens,
    other: { ...charge.other, ...actual.other },
  };
  if (total === undefined || (input !== undefined && output !== undefined)) return known;
  if (input !== undefined) return { ...known, outputTokens: less(total, input) };
  const outputTokens = output ?? least(charge.outputTokens, total);
  return { ...known, inputTokens: less(total, outputTokens), outputTokens };
}

export function amountOf(charge: Charge, unit: string): bigint {
  switch (unit) {
    case "requests":
      return charge.requests;
    case "in_flight":
      return 1n;
    case "tokens":
      return charge.inputTokens + charge.outputTokens;
    case "input_tokens":
      return charge.inputTokens;
    case "output_tokens":
      return charge.outputTokens;
    default:
      return Object.hasOwn(charge.other, unit) ? (charge.other[unit] ?? 0n) : 0n;
  }
}

function less(whole: bigint, part: bigint): bigint {
  return whole > part ? whole - part : 0n;
}
