// Opens one session on one endpoint, and says in words what went wrong if it cannot.
import { randomBytes } from "node:crypto";
import { connect as connectSocket } from "node:net";
import { Client, type ClientDuplexStream, type Metadata, type StatusObject, status } from "@grpc/grpc-js";

import { type Credentials, type Endpoint, secure, sign } from "../credentials.js";
import { PermitServiceDefinition } from "../wire/permitd_v1.js";
import { type Hello, SessionRequest, SessionResponse } from "../wire/permitd_v1.js";
import { definitive, type Problem, passing, problemOf } from "./problem.js";

/** Bytes of one answer. The server bounds its own. */
const RESPONSE_BYTES_MAX = 16 * 1024 * 1024;
/** Room for what is in flight on the one stream. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** How long the server is given to end its side of a session politely, in milliseconds. */
const END_PATIENCE_MS = 1_000;

export interface DialOptions {
  readonly credentials: Credentials;
  readonly connectTimeoutMs: number;
  readonly keepaliveMs: number;
}

/** What a dial tells, in this order; after `onLost` nothing more. */
export interface DialEvents {
  /** The first message, which holds the welcome and perhaps more. */
  readonly onUp: (session: Session, first: SessionResponse) => void;
  readonly onResponse: (response: SessionResponse) => void;
  readonly onLost: (problem: Problem) => void;
}

type Stream = ClientDuplexStream<SessionRequest, SessionResponse>;

/** One attempt at a session, and the session if it succeeds. */
export class Session {
  #stream: Stream | undefined;
  #client: Client | undefined;
  #isUp = false;
  #isOver = false;
  readonly #timer: NodeJS.Timeout | undefined;
  #writable = true;
  /** Called when another message may be sent. */
  onWritable: () => void = () => {};

  constructor(
    readonly endpoint: Endpoint,
    private readonly options: DialOptions,
    private readonly events: DialEvents,
    hello: Hello,
  ) {
    const patience = options.connectTimeoutMs;
    this.#timer = setTimeout(() => this.#lost(passing(`does not answer within ${patience} ms`)), patience);
    this.#open(hello).catch((error: unknown) => {
      this.#lost(definitive(`can't be connected to: ${(error as Error).message}`));
    });
  }

  /** One message at a time is on its way; what comes meanwhile is coalesced by whoever sends. */
  get isWritable(): boolean {
    return this.#isUp && this.#writable && !this.#isOver;
  }

  send(message: SessionRequest): void {
    if (!this.#stream) return;
    this.#writable = false;
    this.#stream.write(message, () => {
      this.#writable = true;
      if (!this.#isOver) this.onWritable();
    });
  }

  /** Breaks it off: nothing more is told. */
  drop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#stream?.cancel();
    this.#client?.close();
  }

  /** Half-closes, and lets the server end its side. */
  async end(): Promise<void> {
    const stream = this.#stream;
    if (this.#isUp && !this.#isOver && stream) {
      this.#isOver = true;
      await new Promise<void>((resolve) => {
        // A server that keeps it open past that is left.
        const timer = setTimeout(resolve, END_PATIENCE_MS);
        stream.on("status", () => {
          clearTimeout(timer);
          resolve();
        });
        stream.end();
      });
    }
    this.drop();
  }

  async #open(hello: Hello): Promise<void> {
    const { credentials, keepaliveMs } = this.options;
    const { endpoint } = this;
    const metadata: Metadata = await sign(credentials.token);
    const channel = secure(endpoint, credentials.tls);
    if (this.#isOver) return;
    const serverName = credentials.tls?.serverName;
    this.#client = new Client(`${endpoint.host}:${endpoint.port}`, channel, {
      "grpc.max_receive_message_length": RESPONSE_BYTES_MAX,
      "grpc-node.flow_control_window": WINDOW_BYTES,
      "grpc.keepalive_time_ms": keepaliveMs,
      "grpc.keepalive_timeout_ms": Math.ceil(keepaliveMs / 2),
      "grpc.keepalive_permit_without_calls": 1,
      // When to try again is decided here, for each attempt anew.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_retries": 0,
      "grpc.service_config_disable_resolution": 1,
      "grpc.enable_http_proxy": 0,
      ...(serverName && { "grpc.ssl_target_name_override": serverName, "grpc.default_authority": serverName }),
    });
    const { fullName, methods } = PermitServiceDefinition;
    const stream: Stream = this.#client.makeBidiStreamRequest(
      `/${fullName}/${methods.session.name}`,
      (message: SessionRequest) => Buffer.from(SessionRequest.encode(message).finish()),
      (bytes: Buffer) => SessionResponse.decode(bytes),
      metadata,
      {},
    );
    this.#stream = stream;
    stream.on("data", (response: SessionResponse) => this.#onData(response));
    stream.on("status", (end: StatusObject) => void this.#onEnd(end));
    // The status says the same, and comes always.
    stream.on("error", () => {});
    this.send({ hello, acquire: [], report: [], cancel: [], extend: [] });
  }

  #onData(response: SessionResponse): void {
    if (this.#isOver) return;
    if (this.#isUp) {
      this.events.onResponse(response);
    } else if (response.welcome) {
      clearTimeout(this.#timer);
      this.#isUp = true;
      this.events.onUp(this, response);
    } else {
      this.#lost(definitive("answered without a Welcome: not permitd, or not this version"));
    }
  }

  async #onEnd(end: StatusObject): Promise<void> {
    if (this.#isOver) return;
    clearTimeout(this.#timer);
    const problem = problemOf(end, this.#isUp);
    // Most of what is not permitd breaks a connection off, as a server that is killed does; it takes another look to tell them apart.
    const isVague = end.code === status.UNAVAILABLE || end.code === status.INTERNAL || end.code === status.UNKNOWN;
    if (!this.#isUp && isVague && (await speaksInText(this.endpoint, this.options.connectTimeoutMs))) {
      this.#lost(definitive("does not speak HTTP/2, so it is not a permitd server; check the port"));
      return;
    }
    this.#lost(problem);
  }

  #lost(problem: Problem): void {
    if (this.#isOver) return;
    this.drop();
    this.events.onLost({ ...problem, text: `${this.endpoint.text} ${problem.text}` });
  }
}

/** Hard to guess: whoever knows a session's id can take it over. */
export function newSessionId(): string {
  return randomBytes(16).toString("hex");
}

/**
 * Whether the peer answers an HTTP/1 request with text, or greets with it. HTTP/2 speaks in frames, which begin with the high byte of a
 * length: a zero.
 */
function speaksInText(endpoint: Endpoint, patienceMs: number): Promise<boolean> {
  if (endpoint.isTls) return Promise.resolve(false);
  return new Promise((resolve) => {
    const socket = connectSocket({ host: endpoint.host.replace(/^\[|\]$/g, ""), port: endpoint.port });
    const answer = (isText: boolean) => {
      socket.destroy();
      resolve(isText);
    };
    socket.setTimeout(patienceMs, () => answer(false));
    socket.on("connect", () => socket.write("GET / HTTP/1.0\r\n\r\n"));
    socket.on("data", (bytes) => answer(bytes[0] !== undefined && bytes[0] > 0x20 && bytes[0] < 0x7f));
    socket.on("error", () => answer(false));
    socket.on("end", () => answer(false));
  });
}
