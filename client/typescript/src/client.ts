// What an application holds: it asks for permits over one session.
import { type CallOptions, call } from "./call.js";
import { clientFull, closed, deadlinePassed, noAnswerInTime } from "./errors.js";
import { Guard } from "./guard.js";
import { type FetchOptions, permitFetch } from "./http/fetch.js";
import type { Permit } from "./permit.js";
import { type AcquireOptions, waitOf, wireRequest } from "./request.js";
import type { Driver } from "./session/driver.js";
import type { AcquireRequest } from "./wire/permitd_v1.js";

/** What the server's answer may take beyond `maxWaitMs`, in milliseconds, before the client stops waiting for it. */
const ANSWER_SLACK_MS = 1_000;
/** Node's timers ring at once for anything longer. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Asks for permits over one session. To be {@link close}d, by hand or by `await using`: until then it keeps the process alive. */
export class Client implements AsyncDisposable {
  readonly #driver: Driver;
  readonly #waitingMax: number;
  /** Requests past `waitingMax`, in the order of asking. */
  readonly #lobby = new Set<Asking>();
  #isAdmitting = false;

  /** See `connect`. */
  constructor(driver: Driver, waitingMax: number) {
    this.#driver = driver;
    this.#waitingMax = waitingMax;
  }

  /** Whether a session stands at the moment. */
  get isConnected(): boolean {
    return this.#driver.status === "connected";
  }

  /**
   * Waits for a permit of the budget `provider/key`; without a slash, the key is `default`.
   *
   * Rejects with a `PermitError`, or with the reason of `options.signal`.
   */
  acquire(budget: string, options: AcquireOptions = {}): Promise<Guard> {
    return new Promise((resolve, reject) => this.#ask(budget, options, 1, resolve, reject));
  }

  /**
   * Asks for `count` permits at once, from 1 to 10,000, each for the whole estimate. The request has one place in the queue; its permits
   * come as they become possible, to be taken by `for await`. The first error ends it.
   *
   * Whoever leaves the loop withdraws what has not come; guards that came are the caller's to settle.
   */
  async *acquireMany(budget: string, count: number, options: AcquireOptions = {}): AsyncGenerator<Guard, void, void> {
    const came: Guard[] = [];
    let failed: unknown;
    let tell = () => {};
    const onGranted = (guard: Guard) => {
      came.push(guard);
      tell();
    };
    const onFailed = (error: unknown) => {
      failed = error;
      tell();
    };
    const withdraw = this.#ask(budget, options, count, onGranted, onFailed);
    try {
      for (let taken = 0; taken < count; taken += 1) {
        while (came.length === 0) {
          // The reason of a signal may be anything.
          if (failed !== undefined) await Promise.reject(failed);
          await new Promise<void>((resolve) => (tell = resolve));
        }
        yield came.shift() as Guard;
      }
    } finally {
      withdraw();
      for (const guard of came) guard.cancel();
    }
  }

  /** Tells every grant, or the one failure, and gives back what withdraws the rest. */
  #ask(
    budget: string,
    options: AcquireOptions,
    count: number,
    onGranted: (guard: Guard) => void,
    onFailed: (error: unknown) => void,
  ): () => void {
    const { signal } = options;
    signal?.throwIfAborted();
    const asking = new Asking(this.#driver, wireRequest(budget, options, count), options, waitOf(options));
    const onAbort = () => fail(signal?.reason);
    let left = count;
    const end = () => {
      signal?.removeEventListener("abort", onAbort);
      this.#lobby.delete(asking);
      asking.end();
      this.#admit();
    };
    const fail = (error: unknown) => {
      end();
      onFailed(error);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    asking.onGranted = (guard) => {
      left -= 1;
      if (left === 0) end();
      onGranted(guard);
    };
    asking.onFailed = fail;
    asking.onLate = () => fail(this.#lobby.has(asking) ? clientFull(this.#waitingMax) : asking.lateness());
    this.#lobby.add(asking);
    this.#admit();
    asking.limit(this.#lobby.has(asking));
    return end;
  }

  /**
   * Acquires, runs `work`, reports how it went; and again, waiting in the queue, while the server advises it, attempts are left and the
   * time is not over. The outcome is that of the last run.
   */
  call<T>(
    budget: string,
    options: CallOptions<T>,
    work: (permit: Permit, signal: AbortSignal) => T | PromiseLike<T>,
  ): Promise<Awaited<T>> {
    return call(this, budget, options, work);
  }

  /** A `fetch` that acquires a permit of `budget` for every request, and reports what the provider answered. */
  fetch(budget: string, options: FetchOptions = {}): typeof globalThis.fetch {
    return permitFetch(this, budget, options);
  }

  /**
   * Ends the session politely: reports that are on their way are answered first (within 5 seconds), requests that wait end with a
   * `PermitError` of kind `closed`, and guards that are left settle as failed.
   */
  async close(): Promise<void> {
    for (const asking of [...this.#lobby]) asking.onFailed(closed());
    await this.#driver.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #admit(): void {
    if (this.#isAdmitting) return;
    this.#isAdmitting = true;
    for (const asking of this.#lobby) {
      if (this.#driver.waitingCount >= this.#waitingMax) break;
      this.#lobby.delete(asking);
      asking.start();
    }
    this.#isAdmitting = false;
  }
}

/** One request on its way to a guard. */
class Asking {
  readonly #askedAt = performance.now();
  #requestId: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;
  onGranted: (guard: Guard) => void = () => {};
  onFailed: (error: Error) => void = () => {};
  /** The time that the caller gave is over. */
  onLate: () => void = () => {};

  constructor(
    private readonly driver: Driver,
    private readonly ask: AcquireRequest,
    private readonly options: AcquireOptions,
    private readonly waitMs: number | undefined,
  ) {}

  start(): void {
    const requestId = this.driver.acquire(this.ask, this.waitMs, this.#askedAt, {
      granted: (permit, hold) => this.onGranted(new Guard(permit, hold, this.driver)),
      refused: (error) => this.onFailed(error),
    });
    if (this.#isOver) return;
    this.#requestId = requestId;
    if (this.#timer) this.limit(false);
  }

  /** Keeps the caller's time: while the client is full to the moment, then with some slack for an answer on its way. */
  limit(isInLobby: boolean): void {
    clearTimeout(this.#timer);
    const until = isInLobby ? this.waitMs : this.#bound();
    if (until === undefined || this.#isOver) return;
    const span = this.#askedAt + until - performance.now();
    if (span > TIMER_MS_MAX) return;
    this.#timer = setTimeout(() => this.onLate(), Math.max(0, Math.ceil(span)));
  }

  lateness(): Error {
    return this.#bound() === this.options.timeoutMs ? deadlinePassed() : noAnswerInTime();
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    if (this.#requestId !== undefined) this.driver.cancel(this.#requestId);
  }

  #bound(): number | undefined {
    const { maxWaitMs, timeoutMs } = this.options;
    if (maxWaitMs === undefined) return timeoutMs;
    return timeoutMs === undefined ? maxWaitMs + ANSWER_SLACK_MS : Math.min(timeoutMs, maxWaitMs + ANSWER_SLACK_MS);
  }
}
