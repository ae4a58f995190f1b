// A permit in the hand. However a guard ends, its permit is settled: by a report, by a cancel, or by being closed or dropped.
import type { PermitError } from "./errors.js";
import type { Permit } from "./permit.js";
import { type Advice, outcomeAlone, type Report, wireReport } from "./report.js";
import type { Driver, Hold } from "./session/driver.js";
import type { Reporter } from "./session/table.js";

/**
 * Leave to make one call. Tell how it went with {@link report}; a guard that is closed (by hand, or by `using` and `await using`) or
 * forgotten settles by itself.
 *
 * While it lives, its permit is extended whenever half of its life is over.
 *
 * **Without a report**, the call may have been sent, so the permit is reported as failed: its charge stays, its slot returns. A call that
 * was certainly not sent is to be {@link cancel}led, and everything goes back.
 */
export class Guard implements Disposable, AsyncDisposable {
  readonly permit: Permit;
  readonly #settling: Settling;

  constructor(permit: Permit, hold: Hold, driver: Driver) {
    this.permit = permit;
    this.#settling = { permit, hold, driver, answer: undefined, isSettled: false };
    forgotten.register(this, this.#settling, this.#settling);
  }

  /**
   * Settles the permit, by default as a success with everything as charged. The report is on its way when this returns; awaiting it gives
   * the server's advice. Of several reports the first counts, and the others get its answer.
   *
   * Rejects with a `PermitError`: `unavailable`, no server can be reached; the report is kept and sent later. `invalid`, the report makes
   * no sense; the permit is settled with its outcome alone. A rejection that nobody awaits is no error.
   */
  report(report: Report = {}): Promise<Advice> {
    const settling = this.#settling;
    settling.answer ??= new Promise<Advice>((resolve, reject) => settle(settling, report, { resolve, reject }));
    settling.answer.catch(() => {});
    return settling.answer;
  }

  /** Gives the permit back unused: the call was certainly not sent. */
  cancel(): void {
    settle(this.#settling, { outcome: "cancelled" }, undefined);
  }

  /** Settles the permit as failed, if it was neither reported nor cancelled. */
  close(): void {
    settle(this.#settling, { outcome: "failed" }, undefined);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/** What outlives a guard that is forgotten. */
interface Settling {
  readonly permit: Permit;
  readonly hold: Hold;
  readonly driver: Driver;
  answer: Promise<Advice> | undefined;
  isSettled: boolean;
}

/** A guard that nobody holds any more settles as if it had been closed. */
const forgotten = new FinalizationRegistry<Settling>((settling) => settle(settling, { outcome: "failed" }, undefined));

function settle(settling: Settling, report: Report, reporter: Reporter | undefined): void {
  const { permit, hold, driver } = settling;
  if (settling.isSettled) {
    // It was cancelled or closed before; that is the answer.
    reporter?.resolve({ outcome: "cancelled", settled: false, retry: false });
    return;
  }
  settling.isSettled = true;
  forgotten.unregister(settling);
  try {
    driver.report(permit, hold, wireReport(permit.permitId, report), reporter);
  } catch (error) {
    // The caller hears of what makes no sense, and the slot is not lost.
    reporter?.reject(error as PermitError);
    driver.report(permit, hold, wireReport(permit.permitId, { outcome: outcomeAlone(report) }), undefined);
  }
}
