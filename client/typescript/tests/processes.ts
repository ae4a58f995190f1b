// The real server and the provider simulator, as processes on ports that the system chooses.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

/** Tests run from client/typescript; the programs are where cargo puts them, unless the environment says otherwise. */
const TARGET = "../../target/debug";
const PERMITD = resolve(process.env.PERMITD_BIN ?? `${TARGET}/permitd`);
const LAB = resolve(process.env.PERMITD_LAB_BIN ?? `${TARGET}/permitd-lab`);

/** A process that was started by a test. */
class Started implements AsyncDisposable {
  constructor(
    readonly process: ChildProcess,
    /** HOST:PORT. */
    readonly address: string,
  ) {}

  get endpoint(): string {
    return `http://${this.address}`;
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, "exit");
    this.process.kill(signal);
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }
}

/** A permitd server that keeps nothing, with the budgets of a configuration in TOML. */
export class Server extends Started {
  static async start(config = "", address = "127.0.0.1:0"): Promise<Server> {
    const folder = await mkdtemp(join(tmpdir(), "permitd-"));
    const file = join(folder, "permitd.toml");
    await writeFile(file, config);
    const flags = ["serve", "--config", file, "--listen", address, "--http", "off", "--data", "none"];
    const started = await start(PERMITD, flags, /gRPC at (\S+),/);
    await rm(folder, { recursive: true });
    return new Server(started.process, started.address);
  }
}

/** A provider that enforces the limits given by flags. */
export class Provider extends Started {
  static async start(...flags: string[]): Promise<Provider> {
    const started = await start(LAB, ["provider", "--listen", "127.0.0.1:0", ...flags], /http:\/\/(\S+)/);
    return new Provider(started.process, started.address);
  }

  /** What it counted since it started, of all keys together. */
  async counted(): Promise<Counters> {
    const stats = (await (await fetch(`${this.endpoint}/sim/stats`)).json()) as { keys: Record<string, Counters> };
    const sum = (name: keyof Counters) => Object.values(stats.keys).reduce((total, key) => total + key[name], 0);
    return { requests: sum("requests"), ok: sum("ok"), limited: sum("limited") };
  }
}

export interface Counters {
  readonly requests: number;
  readonly ok: number;
  readonly limited: number;
}

/** Runs a command to its end; rejects with what it said if it fails. */
export const command = promisify(execFile);

async function start(program: string, flags: string[], announced: RegExp): Promise<Started> {
  const child = spawn(program, flags, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const address = await new Promise<string>((resolve, reject) => {
    const read = (piece: Buffer) => {
      said += piece.toString();
      const found = announced.exec(said)?.[1];
      if (found) resolve(found);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}: ${said}`)));
  });
  return new Started(child, address);
}
