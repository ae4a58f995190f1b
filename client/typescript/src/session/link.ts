// The way to a server: waiting to try, trying, or up. There is always exactly one of these until it is ended, and each makes progress by
// itself.
import type { Endpoint } from "../credentials.js";
import type { Hello, SessionRequest, SessionResponse } from "../wire/permitd_v1.js";
import { backoff, GOOD_LIFE_MS } from "./backoff.js";
import { type DialOptions, newSessionId, Session } from "./dial.js";
import type { Problem } from "./problem.js";

export interface LinkOptions extends DialOptions {
  readonly endpoints: readonly Endpoint[];
  readonly tenant: string;
  readonly name: string;
}

export interface LinkEvents {
  readonly onUp: (resumed: boolean, first: SessionResponse) => void;
  readonly onResponse: (response: SessionResponse) => void;
  /** There is room for one message. */
  readonly onWritable: () => void;
  /** Call {@link Link.retry}. */
  readonly onLost: (problem: Problem) => void;
}

export class Link {
  readonly #hello: Hello;
  /** The one in use or to be tried next. */
  #at = 0;
  /** Failures since the last session that lived. */
  #failures = 0;
  /** Being opened, or open. */
  #session: Session | undefined;
  #upSince: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly options: LinkOptions,
    private readonly events: LinkEvents,
  ) {
    const { name: client, tenant } = options;
    this.#hello = { sessionId: newSessionId(), client, tenant, progress: false, owners: false };
  }

  get isUp(): boolean {
    return this.#upSince !== undefined;
  }

  get isWritable(): boolean {
    return this.isUp && this.#session?.isWritable === true;
  }

  /** Only while {@link isWritable}. */
  send(message: SessionRequest): void {
    this.#session?.send(message);
  }

  dial(): void {
    const { endpoints } = this.options;
    const endpoint = endpoints[this.#at % endpoints.length] as Endpoint;
    const { onUp, onResponse, onLost } = this.events;
    const events = {
      onUp: (session: Session, first: SessionResponse) => {
        this.#upSince = performance.now();
        session.onWritable = this.events.onWritable;
        onUp(first.welcome?.resumed === true, first);
      },
      onResponse,
      onLost,
    };
    this.#session = new Session(endpoint, this.options, events, this.#hello);
  }

  /** Breaks off what stands, and tries again after a while, on the next endpoint or this one. */
  retry(problem: Problem): void {
    const livedLong = this.#upSince !== undefined && performance.now() - this.#upSince >= GOOD_LIFE_MS;
    if (livedLong) this.#failures = 0;
    if (problem.elsewhere || problem.definitive || !this.isUp) this.#at += 1;
    // Whoever has the id now keeps it: this client goes on under a new one.
    if (problem.takenOver) this.#hello.sessionId = newSessionId();
    this.#session?.drop();
    this.#session = undefined;
    this.#upSince = undefined;
    this.#timer = setTimeout(() => this.dial(), backoff(this.#failures, Math.random()));
    this.#failures += 1;
  }

  /** For good: half-closes, and lets the server end its side. */
  async end(): Promise<void> {
    clearTimeout(this.#timer);
    this.#upSince = undefined;
    await this.#session?.end();
  }
}
