// When to try again: full jitter, so that the clients of a server that comes back do not come all at once.

/** The ceiling of the first wait, in milliseconds; it doubles. */
const BASE_MS = 50;
/** The ceiling of every wait. */
const CEILING_MS = 5_000;
/** A session that lived as long as this was a good one. */
export const GOOD_LIFE_MS = 1_000;

/** Milliseconds before the attempt after `failures` failed ones in a row, with `luck` from 0 to 1. */
export function backoff(failures: number, luck: number): number {
  return luck * Math.min(BASE_MS * 2 ** Math.min(failures, 16), CEILING_MS);
}
