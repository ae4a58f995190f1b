// Between the wire's well-known types and milliseconds. Nothing a server can send makes these throw: what makes no sense saturates.
import type { Duration } from "./wire/google_protobuf.js";
import type { Timestamp } from "./wire/google_protobuf.js";

/** The longest `google.protobuf.Duration`: 10,000 years. */
const SECONDS_MAX = 315_576_000_000;

/** Negative spans become zero. */
export function millisOf(span: Duration): number {
  return Math.max(0, Number(span.seconds) * 1_000 + span.nanos / 1_000_000);
}

/** Negative spans become zero, those past the wire's range its longest. Rounded down to nanoseconds. */
export function durationOf(millis: number): Duration {
  const seconds = Math.min(Math.max(0, Math.floor(millis / 1_000)), SECONDS_MAX);
  const rest = seconds === SECONDS_MAX ? 0 : Math.max(0, millis - seconds * 1_000);
  return { seconds: BigInt(seconds), nanos: Math.min(Math.floor(rest * 1_000_000), 999_999_999) };
}

/** Moments that a `Date` can't hold count as unknown. */
export function dateOf(moment: Timestamp): Date | undefined {
  const date = new Date(Number(moment.seconds) * 1_000 + moment.nanos / 1_000_000);
  return Number.isNaN(date.getTime()) ? undefined : date;
}
