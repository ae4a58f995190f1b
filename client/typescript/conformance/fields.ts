// The fields of commands and events, in the library's own terms and back.
import {
  type AcquireOptions,
  type Amount,
  type OutagePolicy,
  type Outcome,
  PermitError,
  type Priority,
  type Report,
  type Usage,
} from "../src/index.js";

/** How a call went. */
export interface Said {
  readonly outcome?: Outcome | null;
  readonly status?: number | null;
  readonly headers?: Record<string, string> | null;
  readonly body?: string | null;
  readonly tokens?: string | null;
  readonly usage?: WireUsage | null;
  readonly retry_after_ms?: number | null;
  readonly raises?: boolean;
}

/** One line of stdin; which fields are there depends on `op`. Amounts are decimal strings. */
export interface Command extends Said {
  readonly op: string;
  readonly id: string;
  readonly provider?: string;
  readonly key?: string;
  readonly model?: string | null;
  readonly tenant?: string | null;
  readonly priority?: Priority | null;
  readonly max_wait_ms?: number | null;
  readonly deadline_ms?: number | null;
  readonly endpoints?: string[];
  readonly ca?: string | null;
  readonly token?: string | null;
  readonly token_file?: string | null;
  readonly outage?: OutagePolicy | null;
  readonly outage_after_ms?: number | null;
  readonly connect_timeout_ms?: number | null;
  readonly keepalive_ms?: number | null;
  readonly attempts?: number;
  readonly answers?: Said[];
  readonly count?: number;
  readonly url?: string;
  readonly method?: string;
}

export type Event = { readonly event: string } & Record<string, unknown>;

type WireUsage = { readonly [unit: string]: string | null | Record<string, string> };

export function budgetIn({ provider = "", key }: Command): string {
  return key ? `${provider}/${key}` : provider;
}

export function askIn(command: Command): AcquireOptions {
  return {
    model: command.model ?? undefined,
    tenant: command.tenant ?? undefined,
    priority: command.priority ?? undefined,
    tokens: command.tokens == null ? undefined : BigInt(command.tokens),
    usage: usageIn(command),
    maxWaitMs: command.max_wait_ms ?? undefined,
    timeoutMs: command.deadline_ms ?? undefined,
  };
}

export function reportIn(said: Said): Report {
  return {
    // Empty says nothing, as null does.
    outcome: said.outcome || undefined,
    status: said.status ?? undefined,
    headers: said.headers ?? undefined,
    body: said.body ?? undefined,
    usage: usageIn(said) ?? (said.tokens == null ? undefined : { tokens: BigInt(said.tokens) }),
    retryAfterMs: said.retry_after_ms ?? undefined,
  };
}

export function refusal(event: string, error: unknown, id: string): Event {
  if (!(error instanceof PermitError)) return { event, id, reason: "", message: String(error) };
  const { code, reason, message, limit, retryAfterMs } = error;
  const wait = retryAfterMs === undefined ? null : Math.ceil(retryAfterMs);
  return { event, id, code, reason, message, limit: limit ?? "", retry_after_ms: wait };
}

/** As decimal strings, in the wire's names. */
export function amounts(usage: object): Record<string, unknown> {
  const told = Object.entries(usage as Record<string, bigint | object | undefined>).filter(
    ([, amount]) => amount !== undefined,
  );
  return Object.fromEntries(
    told.map(([name, amount]) => [snakeCase(name), typeof amount === "object" ? amounts(amount) : String(amount)]),
  );
}

function usageIn({ usage }: Said): Usage | undefined {
  if (!usage) return undefined;
  const { other, ...named } = usage;
  const exact = (units: object) =>
    Object.entries(units).flatMap(([unit, amount]) =>
      amount == null ? [] : [[unit, BigInt(amount as string)] as const],
    );
  return {
    ...Object.fromEntries(exact(named).map(([unit, amount]) => [camelCase(unit), amount])),
    ...(other && { other: Object.fromEntries<Amount>(exact(other as object)) }),
  };
}

function camelCase(name: string): string {
  return name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
