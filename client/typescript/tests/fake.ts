// A permitd server that does what a test says, over a real connection.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import {
  type Metadata,
  Server as GrpcServer,
  ServerCredentials,
  type ServerDuplexStream,
  type StatusObject,
} from "@grpc/grpc-js";

import {
  type AcquireRequest,
  type Hello,
  type Limit,
  Outcome,
  type ReportRequest,
  SessionRequest,
  SessionResponse,
} from "../src/wire/permitd_v1.js";

type Stream = ServerDuplexStream<SessionRequest, SessionResponse | Buffer>;

/** What is waited for, in the order in which it came. */
export class Inbox<T> {
  readonly #items: T[] = [];
  readonly #takers: ((item: T) => void)[] = [];

  push(item: T): void {
    const taker = this.#takers.shift();
    if (taker) taker(item);
    else this.#items.push(item);
  }

  next(): Promise<T> {
    const item = this.#items.shift();
    return item === undefined ? new Promise((resolve) => this.#takers.push(resolve)) : Promise.resolve(item);
  }

  get size(): number {
    return this.#items.length;
  }
}

export class FakeServer implements AsyncDisposable {
  readonly sessions = new Inbox<FakeSession>();
  /** How often a session was opened. */
  opened = 0;
  readonly #grpc = new GrpcServer();
  port = 0;

  static async start(port = 0): Promise<FakeServer> {
    const server = new FakeServer();
    const session = {
      path: "/permitd.v1.PermitService/Session",
      requestStream: true,
      responseStream: true,
      requestSerialize: (message: SessionRequest) => Buffer.from(SessionRequest.encode(message).finish()),
      requestDeserialize: (bytes: Buffer) => SessionRequest.decode(bytes),
      responseSerialize: (message: SessionResponse | Buffer) =>
        Buffer.isBuffer(message) ? message : Buffer.from(SessionResponse.encode(message).finish()),
      responseDeserialize: (bytes: Buffer) => SessionResponse.decode(bytes),
    };
    server.#grpc.addService({ session }, { session: (stream: Stream) => server.#open(stream) });
    server.port = await new Promise<number>((resolve, reject) => {
      const bound = (error: Error | null, at: number) => (error ? reject(error) : resolve(at));
      server.#grpc.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), bound);
    });
    return server;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The next session, welcomed. */
  async welcomed({ resumed = false } = {}): Promise<FakeSession> {
    const session = await this.sessions.next();
    await session.welcome(resumed);
    return session;
  }

  kill(): void {
    this.#grpc.forceShutdown();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
  }

  #open(stream: Stream): void {
    this.opened += 1;
    this.sessions.push(new FakeSession(stream));
  }
}

export class FakeSession {
  readonly hello: Promise<Hello>;
  readonly metadata: Metadata;
  readonly messages = new Inbox<SessionRequest>();
  readonly acquires = new Inbox<AcquireRequest>();
  readonly reports = new Inbox<ReportRequest>();
  readonly cancels = new Inbox<bigint>();
  readonly extensions = new Inbox<string>();
  /** The client has half-closed. */
  readonly ended: Promise<unknown>;

  constructor(readonly stream: Stream) {
    this.metadata = stream.metadata;
    let tell: (hello: Hello) => void;
    this.hello = new Promise((resolve) => (tell = resolve));
    this.ended = new Promise((resolve) => stream.on("end", resolve));
    stream.on("data", (message: SessionRequest) => {
      if (message.hello) return tell(message.hello);
      this.messages.push(message);
      for (const acquire of message.acquire) this.acquires.push(acquire);
      for (const report of message.report) this.reports.push(report);
      for (const requestId of message.cancel) this.cancels.push(requestId);
      for (const permitId of message.extend) this.extensions.push(permitId);
    });
    stream.on("error", () => {});
  }

  async welcome(resumed: boolean): Promise<void> {
    const { sessionId } = await this.hello;
    this.send({ welcome: { sessionId, resumed, grace: { seconds: 10n, nanos: 0 }, address: "" } });
  }

  send(response: Partial<SessionResponse>): void {
    this.stream.write({ ...EMPTY, ...response });
  }

  /** Bytes as they are. */
  sendRaw(bytes: Buffer): void {
    this.stream.write(bytes);
  }

  grant(requestId: bigint, permitId: string, ttlMs = 600_000): void {
    const ttl = { seconds: BigInt(Math.floor(ttlMs / 1_000)), nanos: (ttlMs % 1_000) * 1_000_000 };
    const known = { provider: "api", key: "prod", expiresAt: undefined, waited: undefined, charged: undefined };
    this.send({ granted: [{ requestId, permit: { permitId, ttl, ...known } }] });
  }

  /** Takes the next acquire and grants it. */
  async grantNext(permitId: string): Promise<AcquireRequest> {
    const asked = await this.acquires.next();
    this.grant(asked.requestId, permitId);
    return asked;
  }

  refuse(who: { requestId: bigint } | { permitId: string }, code: number, reason: string): void {
    const facts = { code, reason, message: `no: ${reason}`, limit: "", retryAfter: undefined };
    this.send({ refused: [{ requestId: 0n, permitId: "", ...who, ...facts }] });
  }

  /** Takes the next report and answers it. */
  async settleNext(): Promise<ReportRequest> {
    const report = await this.reports.next();
    this.settle(report.permitId, report.outcome || Outcome.SUCCESS);
    return report;
  }

  settle(permitId: string, outcome = Outcome.SUCCESS): void {
    this.send({ reported: [{ permitId, outcome, settled: true, retry: false, retryAfter: undefined }] });
  }

  share(limits: Limit[], seconds = 600n): void {
    this.send({ shares: [{ provider: "api", key: "prod", limits, validFor: { seconds, nanos: 0 } }] });
  }

  /** Ends the stream with a status. */
  fail(status: Partial<StatusObject>): void {
    this.stream.emit("error", status);
  }
}

const EMPTY: SessionResponse = {
  welcome: undefined,
  queued: [],
  granted: [],
  refused: [],
  reported: [],
  shares: [],
  owners: [],
};

export function limit(unit: string, amount: bigint, burst = amount): Limit {
  const per = unit === "in_flight" ? undefined : { seconds: 60n, nanos: 0 };
  const rest = { window: 0, models: "", tenants: "", quantum: undefined, phase: undefined, adapt: 0 };
  return { unit, amount, per, burst, ...rest };
}

/** A peer that is no permitd, and speaks as it is told. */
export async function stranger(speak: (socket: Socket) => void): Promise<{ endpoint: string } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const listener = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    speak(socket);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const address = listener.address();
  assert.ok(address && typeof address === "object");
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      listener.close();
      await once(listener, "close");
    },
  };
}
