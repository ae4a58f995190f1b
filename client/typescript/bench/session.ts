// How many permits one client gets and reports in a second through its one session, how long one takes that waits for nobody, and what a
// million of them leave behind. Server and client share this machine's cores.
//
// `npm run bench`, with `-- SECONDS PERMITS` for other amounts; PERMITD_BIN names the server.
import { type Client, connect } from "../src/index.js";
import { Server } from "../tests/processes.js";

/** Callers at the same time. */
const CONCURRENCY = [1, 16, 256, 4_096];

const seconds = Number(process.argv[2] ?? 3);
const permits = Number(process.argv[3] ?? 1_000_000);

await using server = await Server.start(`
[budgets."api/prod"]
limits = ["in_flight=1000000", "requests=1000000000000/1m"]
`);
const client = await connect(server.endpoint);
for (const callers of CONCURRENCY) await measure(client, callers);
await uncontended(client);
await flat(client);
await client.close();

async function measure(client: Client, callers: number): Promise<void> {
  const until = performance.now() + seconds * 1_000;
  let count = 0;
  const caller = async () => {
    for (; performance.now() < until; count += 1) await once(client);
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: callers }, caller));
  const rate = (count / (performance.now() - began)) * 1_000;
  console.log(`${callers} callers: ${Math.round(rate).toLocaleString("en")} permits acquired and reported per second`);
}

async function uncontended(client: Client): Promise<void> {
  const spans: number[] = [];
  while (spans.length < 10_000) {
    const began = performance.now();
    const guard = await client.acquire("api/prod");
    spans.push(performance.now() - began);
    await guard.report();
  }
  spans.sort((one, other) => one - other);
  const at = (share: number) => (spans[Math.floor(spans.length * share)] ?? 0).toFixed(3);
  console.log(`an acquire with nobody else: median ${at(0.5)} ms, p99 ${at(0.99)} ms`);
}

/** Memory after some permits, and after many more. */
async function flat(client: Client): Promise<void> {
  const run = async (count: number) => {
    let left = count;
    const caller = async () => {
      for (; left > 0; left -= 1) await once(client);
    };
    await Promise.all(Array.from({ length: 256 }, caller));
    globalThis.gc?.();
    await new Promise(setImmediate);
    return process.memoryUsage();
  };
  const [first, last] = [await run(permits / 10), await run(permits)];
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  const heap = `heap ${mib(first.heapUsed)} MiB, then ${mib(last.heapUsed)} MiB`;
  const whole = `resident ${mib(first.rss)} MiB, then ${mib(last.rss)} MiB`;
  console.log(`after ${permits / 10} and ${permits} more permits: ${heap}; ${whole}`);
}

async function once(client: Client): Promise<void> {
  const guard = await client.acquire("api/prod");
  await guard.report();
}
