// Everything that can be set about a client, checked before anything is connected.
import { Client } from "./client.js";
import { checkCredentials, parseEndpoint, type TlsOptions, type Token } from "./credentials.js";
import { closed, invalid, noServer } from "./errors.js";
import { checkName, checkSpan } from "./request.js";
import { Driver, type OutagePolicy } from "./session/driver.js";
import { VERSION } from "./version.js";

/** What can be set about a client; all of it may be left out. */
export interface ConnectOptions {
  /** Whom to trust, and what to show, where endpoints are `https://`. Default: the system's authorities, and nothing. */
  readonly tls?: TlsOptions | undefined;
  /** Says who this client is. It is not sent in the clear to other machines. */
  readonly token?: Token | undefined;
  /**
   * Sends the token to `http://` endpoints on other machines too, where whoever is on the way can read it: only where the network itself
   * keeps strangers out. Default: false.
   */
  readonly insecure?: boolean | undefined;
  /** Who shares the budgets: the tenant of requests that name none. Use one per service, team or job. */
  readonly tenant?: string | undefined;
  /** What becomes of requests while no server can be reached. Default: `fail_closed`. */
  readonly outage?: OutagePolicy | undefined;
  /**
   * How many milliseconds no server can be reached before the outage policy takes over; until then requests wait. Default: 3,000. Shorter
   * than a server's restart, callers notice each of them.
   */
  readonly outageAfterMs?: number | undefined;
  /** How many milliseconds one attempt to open a session may take. Default: 2,000. */
  readonly connectTimeoutMs?: number | undefined;
  /**
   * How often a silent connection is probed, in milliseconds; one that gives no answer for half of that again is given up. Default:
   * 10,000.
   */
  readonly keepaliveMs?: number | undefined;
  /**
   * How many requests of this client may be on their way or in a queue at a time; more wait inside the client. At least 1; default 10,000,
   * which is the server's own bound for a session.
   */
  readonly waitingMax?: number | undefined;
  /** What the server's operator sees of this client; by default this library and its version. */
  readonly name?: string | undefined;
}

const POLICIES: readonly OutagePolicy[] = ["fail_closed", "fail_open", "local_share"];

/** Timers hold no more milliseconds than this. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/**
 * Opens a session with the first of `endpoints` that answers; each is written `http://HOST:PORT` or `https://HOST:PORT`.
 *
 * Rejects with a `PermitError`: `invalid`, a setting makes no sense; `unavailable`, no server can be reached in time, only with
 * `fail_closed`: the other policies let the client start in an outage.
 */
export async function connect(endpoints: string | readonly string[], options: ConnectOptions = {}): Promise<Client> {
  const { outage = "fail_closed", outageAfterMs = 3_000, connectTimeoutMs = 2_000 } = options;
  const { keepaliveMs = 10_000, waitingMax = 10_000, tenant = "" } = options;
  const { name = `permitd-client-typescript/${VERSION}` } = options;
  const texts = typeof endpoints === "string" ? [endpoints] : endpoints;
  if (texts.length === 0) throw invalid("endpoints", "none given; the default server is http://127.0.0.1:7110");
  checkName("tenant", tenant);
  checkName("name", name);
  if (!POLICIES.includes(outage)) throw invalid("outage", `${outage} is none of ${POLICIES.join(", ")}`);
  checkSpan("outageAfterMs", outageAfterMs);
  for (const [field, span] of Object.entries({ connectTimeoutMs, keepaliveMs })) {
    checkSpan(field, span);
    if (span < 1 || span > TIMER_MS_MAX) throw invalid(field, `${span} is outside 1 to ${TIMER_MS_MAX} milliseconds`);
  }
  if (!Number.isInteger(waitingMax) || waitingMax < 1) throw invalid("waitingMax", "is no number of at least 1");
  const credentials = { tls: options.tls, token: options.token, insecure: options.insecure ?? false };
  const parsed = texts.map(parseEndpoint);
  for (const endpoint of parsed) checkCredentials(endpoint, credentials);
  const link = { endpoints: parsed, credentials, tenant, name, connectTimeoutMs, keepaliveMs };
  const driver = new Driver({ ...link, outage, outageAfterMs });
  await ready(driver, outage);
  return new Client(driver, waitingMax);
}

/** Waits for the first session, or for the outage policy to take over. */
async function ready(driver: Driver, outage: OutagePolicy): Promise<void> {
  while (driver.status === "connecting") await driver.changed();
  if (driver.status === "closed") throw closed();
  if (driver.status === "outage" && outage === "fail_closed") {
    const problem = driver.problem;
    await driver.close();
    throw noServer(problem);
  }
}
