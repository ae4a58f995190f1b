// What is known of a permit, and who has to hear of its end.
import type { ExactUsage } from "./usage.js";

/**
 * Who granted a permit: a permitd `server`; this client's `local_share`, while no server could be reached; or nobody (`fail_open`), since
 * no server could be reached and the policy is to go on.
 */
export type Source = "server" | "local_share" | "fail_open";

/** Leave to make one call. */
export interface Permit {
  /** The server's opaque id; empty if no server granted it. */
  readonly permitId: string;
  /** The API to be called. */
  readonly provider: string;
  /** The alias of the credential to be used. */
  readonly key: string;
  /** What the permit holds. */
  readonly charged: ExactUsage;
  /** How many milliseconds the request was in the queue. */
  readonly waitedMs: number;
  /**
   * When the permit was to end by itself, by the server's clock, as it was granted. While its guard lives the client extends it. Absent if
   * no server granted it.
   */
  readonly expiresAt: Date | undefined;
  readonly source: Source;
}

/** How budgets are named in the client: as the server does. */
export function budgetName(provider: string, key: string): string {
  return `${provider}/${key || "default"}`;
}
