// A client process of the comparison that uses permitd's TypeScript client: plain `fetch` with the adapter in front. The lines on
// stdin and stdout are those of compare/client.py.
import { createInterface } from "node:readline";
import { connect } from "../../../client/typescript/dist/index.js";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const assignment = JSON.parse((await lines.next()).value);
const permits = await connect(assignment.permitd, { tenant: assignment.name });
const record = { failures: [], jobs: [] };
let began = 0;

const now = () => (performance.now() - began) / 1000;

async function recording(input, init) {
  const number = Number(new Headers(init?.headers ?? input.headers).get("x-sim-call"));
  const time = times[number];
  time.attempts += 1;
  time.set_out = now();
  const response = await fetch(input, init);
  if (!response.ok) {
    time.refused += 1;
    time.set_out = null;
  }
  return response;
}

const times = {};
const priority = assignment.role === "interactive" ? "interactive" : "batch";
const send = permits.fetch(assignment.budget, { priority, attempts: 11, fetch: recording });

async function make(number) {
  const job = assignment.jobs[number];
  const input_tokens = Math.floor(job.prompt_chars / 4);
  times[number] = { wanted: now(), set_out: null, ended: null, failed: false, attempts: 0, refused: 0, input_tokens };
  record.jobs.push(times[number]);
  const content = "word ".repeat(job.prompt_chars / 5 + 1).slice(0, job.prompt_chars);
  const headers = { "content-type": "application/json", "x-api-key": "compare" };
  const response = await send(`${assignment.provider}/v1/messages`, {
    method: "POST",
    headers: { ...headers, "x-sim-client": assignment.name, "x-sim-call": String(number) },
    body: JSON.stringify({
      model: "claude-compare",
      max_tokens: job.max_tokens,
      messages: [{ role: "user", content }],
    }),
  });
  const text = await response.text();
  times[number].ended = now();
  if (!response.ok) {
    times[number].failed = true;
    record.failures.push(`${response.status}: ${text.slice(0, 100)}`);
  }
}

async function batch() {
  let next = 0;
  const slot = async () => {
    while (next < assignment.jobs.length) await make(next++);
  };
  await Promise.all(Array.from({ length: assignment.slots }, slot));
}

async function interactive() {
  const made = assignment.jobs.map(async (job, number) => {
    await new Promise((resolve) => setTimeout(resolve, job.at_ms));
    await make(number);
  });
  await Promise.all(made);
}

console.log("ready");
await lines.next();
began = performance.now();
// What fails here is a fault of the comparison: it ends this process with its words on stderr.
void (assignment.role === "interactive" ? interactive() : batch());
await lines.next();
process.stdout.write(`${JSON.stringify(record)}\n`, () => process.exit(0));
