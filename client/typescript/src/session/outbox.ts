// What goes out next: ids only, in order. What they stand for is looked up when the message is built, so that what was cancelled
// meanwhile is not sent at all.
import type { AcquireRequest, ReportRequest } from "../wire/permitd_v1.js";
import type { SessionRequest } from "../wire/permitd_v1.js";

/** The server's bounds on one message. */
const ACQUIRES_MAX = 1_000;
const CANCELS_MAX = 10_000;
/** Ours, well within the server's bytes. */
const REPORTS_MAX = 4_000;
const EXTENDS_MAX = 4_000;
/** Past this the message is full: the server takes 4 MiB, and one more item is at most a tenth of the rest. */
const MESSAGE_BYTES_MAX = 2 * 1024 * 1024;
/** What is of fixed size in an item, generously. */
const FIXED_BYTES = 96;
/** UTF-8 bytes of one UTF-16 unit, at most. */
const BYTES_PER_UNIT = 3;

/** Says what ids stand for by now, if they still do. */
export interface Lookup {
  acquire(requestId: number): AcquireRequest | undefined;
  report(permitId: string): ReportRequest | undefined;
  cancelled(requestId: number): void;
}

export class Outbox {
  readonly #acquires = new Fifo<number>();
  readonly #reports = new Fifo<string>();
  readonly #cancels = new Fifo<number>();
  readonly #extends = new Fifo<string>();

  acquire(requestId: number): void {
    this.#acquires.push(requestId);
  }

  report(permitId: string): void {
    this.#reports.push(permitId);
  }

  cancel(requestId: number): void {
    this.#cancels.push(requestId);
  }

  extend(permitId: string): void {
    this.#extends.push(permitId);
  }

  get isEmpty(): boolean {
    return [this.#acquires, this.#reports, this.#cancels, this.#extends].every((fifo) => fifo.length === 0);
  }

  /** The next message; absent if everything was cancelled meanwhile. */
  message(lookup: Lookup): SessionRequest | undefined {
    const message: SessionRequest = { hello: undefined, acquire: [], report: [], cancel: [], extend: [] };
    let bytes = 0;
    // Reports first: they make room in the budget for what is asked next.
    while (message.report.length < REPORTS_MAX && bytes < MESSAGE_BYTES_MAX) {
      const permitId = this.#reports.shift();
      if (permitId === undefined) break;
      const report = lookup.report(permitId);
      if (!report) continue;
      bytes += reportBytes(report);
      message.report.push(report);
    }
    while (message.acquire.length < ACQUIRES_MAX && bytes < MESSAGE_BYTES_MAX) {
      const requestId = this.#acquires.shift();
      if (requestId === undefined) break;
      const acquire = lookup.acquire(requestId);
      if (!acquire) continue;
      bytes += acquireBytes(acquire);
      message.acquire.push(acquire);
    }
    while (message.cancel.length < CANCELS_MAX) {
      const requestId = this.#cancels.shift();
      if (requestId === undefined) break;
      lookup.cancelled(requestId);
      message.cancel.push(BigInt(requestId));
    }
    while (message.extend.length < EXTENDS_MAX) {
      const permitId = this.#extends.shift();
      if (permitId === undefined) break;
      message.extend.push(permitId);
    }
    const { acquire, report, cancel, extend } = message;
    return acquire.length + report.length + cancel.length + extend.length > 0 ? message : undefined;
  }
}

/** A queue whose `shift` does not move what is behind it. */
class Fifo<T> {
  #items: T[] = [];
  #taken = 0;

  get length(): number {
    return this.#items.length - this.#taken;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#taken];
    this.#taken += 1;
    if (this.length === 0) {
      this.#items = [];
      this.#taken = 0;
    }
    return item;
  }
}

function reportBytes(report: ReportRequest): number {
  let units = report.permitId.length;
  for (const name in report.headers) units += name.length + (report.headers[name]?.length ?? 0) + 8;
  return FIXED_BYTES + units * BYTES_PER_UNIT + report.body.length + usageBytes(report.actual);
}

function acquireBytes(acquire: AcquireRequest): number {
  const units = acquire.provider.length + acquire.key.length + acquire.model.length + acquire.tenant.length;
  return FIXED_BYTES + units * BYTES_PER_UNIT + usageBytes(acquire.estimate);
}

function usageBytes(usage: AcquireRequest["estimate"]): number {
  if (!usage) return 0;
  let units = 0;
  for (const unit in usage.other) units += unit.length + 16;
  return FIXED_BYTES + units * BYTES_PER_UNIT;
}
