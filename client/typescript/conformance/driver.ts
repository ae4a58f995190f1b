// The conformance driver of this library: commands as JSON lines on stdin, events as JSON lines on stdout, as client/conformance/README.md
// has them.
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { estimate, modelIn } from "../src/http/estimate.js";
import { parsed } from "../src/http/json.js";
import { type Client, connect, type Guard, usageIn } from "../src/index.js";
import { amounts, askIn, budgetIn, type Command, type Event, refusal, reportIn, type Said } from "./fields.js";

let client: Client | undefined;
const asking = new Map<string, AbortController>();
const guards = new Map<string, Guard>();
/** Guards that were reported, cancelled or dropped. */
const ended = new Set<string>();
const before = resources();

const operations: Record<string, (command: Command) => Promise<Event>> = {
  async connect(command) {
    const { endpoints, ca, token, token_file: file, tenant, outage } = command;
    client = await connect(endpoints ?? [], {
      tls: ca ? { ca } : undefined,
      token: token ?? (file ? { file } : undefined),
      tenant: tenant ?? undefined,
      outage: outage ?? undefined,
      outageAfterMs: command.outage_after_ms ?? undefined,
      connectTimeoutMs: command.connect_timeout_ms ?? undefined,
      keepaliveMs: command.keepalive_ms ?? undefined,
    });
    return { event: "connected" };
  },

  async acquire(command) {
    const { id } = command;
    const interrupt = new AbortController();
    asking.set(id, interrupt);
    try {
      const guard = await connected().acquire(budgetIn(command), { ...askIn(command), signal: interrupt.signal });
      guards.set(id, guard);
      return granted(id, guard);
    } catch (error) {
      return interrupt.signal.aborted ? { event: "cancelled", id } : refusal("refused", error, id);
    } finally {
      asking.delete(id);
    }
  },

  async several(command) {
    const { id, count = 0 } = command;
    const interrupt = new AbortController();
    asking.set(id, interrupt);
    try {
      let number = 0;
      const options = { ...askIn(command), signal: interrupt.signal };
      for await (const guard of connected().acquireMany(budgetIn(command), count, options)) {
        number += 1;
        guards.set(`${id}${number}`, guard);
        tell(granted(`${id}${number}`, guard));
      }
      return { event: "complete", id };
    } catch (error) {
      return interrupt.signal.aborted ? { event: "cancelled", id } : refusal("refused", error, id);
    } finally {
      asking.delete(id);
    }
  },

  async cancel({ id }) {
    const interrupt = asking.get(id);
    // The acquire tells of it.
    if (interrupt) return interrupt.abort() ?? SILENT;
    end(id)?.cancel();
    return { event: "cancelled", id };
  },

  async drop({ id }) {
    end(id)?.close();
    return { event: "dropped", id };
  },

  async report(command) {
    const { id } = command;
    const guard = guards.get(id);
    if (!guard) throw new Error(`report: there is no permit ${id}`);
    const isFirst = end(id) !== undefined;
    try {
      const { outcome, settled, retry, retryAfterMs } = await guard.report(reportIn(command));
      if (!isFirst) return { event: "repeated", id };
      return { event: "reported", id, outcome, settled, retry, retry_after_ms: retryAfterMs ?? null };
    } catch (error) {
      return refusal("failed", error, id);
    }
  },

  async call(command) {
    const { id, answers = [], attempts = undefined } = command;
    let runs = 0;
    const work = async () => {
      const answer = answers[Math.min(runs, answers.length - 1)] ?? {};
      runs += 1;
      if (answer.raises) throw RAISED;
      return answer;
    };
    const classify = ({ value }: { value?: Said }) => (value ? reportIn(value) : { outcome: "failed" as const });
    try {
      const last = await connected().call(budgetIn(command), { ...askIn(command), attempts, classify }, work);
      return { event: "called", id, attempts: runs, status: last.status ?? null };
    } catch (error) {
      return error === RAISED ? { event: "raised", id, attempts: runs } : refusal("refused", error, id);
    }
  },

  async many(command) {
    const [budget, options] = [budgetIn(command), askIn(command)];
    let [granted, refused] = [0, 0];
    const one = async () => {
      try {
        const guard = await connected().acquire(budget, options);
        await guard.report();
        granted += 1;
      } catch {
        refused += 1;
      }
    };
    await Promise.all(Array.from({ length: command.count ?? 0 }, one));
    return { event: "many", id: command.id, granted, refused };
  },

  async http(command) {
    const { id, url = "", method = "GET", headers, body } = command;
    try {
      const fetch = connected().fetch(budgetIn(command), askIn(command));
      const init = { method, ...(headers && { headers }), ...(body != null && { body }) };
      const response = await fetch(url, init);
      return { event: "responded", id, status: response.status, body: await response.text() };
    } catch (error) {
      return refusal("refused", error, id);
    }
  },

  async estimate({ id, body }) {
    const text = body ?? "";
    const { inputTokens, maxOutputTokens } = estimate(text) ?? {};
    const told = {
      input_tokens: inputTokens?.toString() ?? null,
      max_output_tokens: maxOutputTokens?.toString() ?? null,
    };
    return { event: "estimated", id, ...told, model: modelIn(parsed(text)) };
  },

  async usage({ id, body, status }) {
    const used = (status ?? 200) < 400 ? usageIn(body ?? "") : undefined;
    const text = (amount: bigint | undefined) => amount?.toString() ?? null;
    return {
      event: "used",
      id,
      input_tokens: text(used?.inputTokens),
      output_tokens: text(used?.outputTokens),
      cached_input_tokens: text(used?.cachedInputTokens),
    };
  },

  async close() {
    await client?.close();
    client = undefined;
    // Sockets take some turns of the event loop to close.
    for (let turn = 0; turn < CLOSING_TURNS && resources() > before; turn += 1) await delay(CLOSING_TURN_MS);
    return { event: "closed", leaked: Math.max(0, resources() - before) };
  },
};

/** What is still there after so many turns of so many milliseconds was left behind. */
const CLOSING_TURNS = 100;
const CLOSING_TURN_MS = 10;
/** Told by another command. */
const SILENT: Event = { event: "" };
const RAISED = new Error("the function's own");

function granted(id: string, { permit }: Guard): Event {
  return { event: "granted", id, from: permit.source, charged: amounts(permit.charged) };
}

function connected(): Client {
  if (!client) throw new Error("not connected: connect comes first");
  return client;
}

/** The guard, if nothing ended it yet. */
function end(id: string): Guard | undefined {
  const guard = ended.has(id) ? undefined : guards.get(id);
  ended.add(id);
  return guard;
}

/** Sockets and timers of this process. */
function resources(): number {
  return process.getActiveResourcesInfo().filter((kind) => /^(TCP|TLS|Timeout|GetAddrInfo)/.test(kind)).length;
}

async function run(command: Command): Promise<void> {
  const operation = Object.hasOwn(operations, command.op) ? operations[command.op] : undefined;
  const event = await (operation?.(command) ?? { event: "unknown", op: command.op });
  if (event !== SILENT) tell(event);
}

function tell(event: Event): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

async function main(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === "") continue;
    const command = JSON.parse(line) as Command;
    if (command.op === "close") break;
    const running = run(command).catch((error) => {
      tell(refusal("failed", error, command.id));
    });
    // Everything else goes on side by side.
    if (command.op === "connect") await running;
  }
  await run({ op: "close", id: "" });
}

await main();
process.stdin.destroy();
