// One timer that rings at the latest moment it was set to. Spans past what Node's timers hold are cut into several.

/** Node's timers ring at once for anything longer. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export class Alarm {
  #timer: NodeJS.Timeout | undefined;
  #at: number | undefined;

  constructor(private readonly ring: () => void) {}

  /** `at` is in milliseconds of `performance.now()`; absent for never. */
  set(at: number | undefined): void {
    if (at === this.#at) return;
    this.clear();
    this.#at = at;
    if (at === undefined) return;
    const span = Math.ceil(Math.min(Math.max(0, at - performance.now()), TIMER_MS_MAX));
    this.#timer = setTimeout(() => {
      this.#at = undefined;
      // Whoever is called finds out whether it is time already.
      this.ring();
    }, span);
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#at = undefined;
  }
}
