// A local share in virtual time: it starts empty, holds to the letter, and starves nobody.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { PermitError, Report, Usage } from "../src/index.js";
import { wireReport } from "../src/report.js";
import { wireRequest } from "../src/request.js";
import { matches } from "../src/share/glob.js";
import { meterOf } from "../src/share/meter.js";
import { Share, type SharePermit } from "../src/share/share.js";
import { type Limit, Window } from "../src/wire/permitd_v1.js";
import { limit } from "./fake.js";

const SECOND = 1_000_000_000n;

/** A share with a clock that goes forward by hand. */
class Stage {
  now = 1_000n * SECOND;
  readonly share: Share;
  readonly granted: { requestId: number; at: bigint }[] = [];
  readonly refused = new Map<number, PermitError>();
  readonly #permits = new Map<number, SharePermit>();
  #asked = 0;
  #live = 0;

  constructor(...limits: Limit[]) {
    const meters = limits.map((one) => meterOf(one, () => this.#live, this.now) ?? assert.fail(`${one.unit}`));
    this.share = new Share(meters, "web", {
      granted: (requestId, permit) => {
        this.#live += 1;
        this.granted.push({ requestId, at: this.now });
        this.#permits.set(requestId, permit);
      },
      refused: (requestId, error) => this.refused.set(requestId, error),
    });
  }

  ask(usage: Usage, { waitMs, model }: { waitMs?: number; model?: string } = {}): number {
    this.#asked += 1;
    this.share.acquire(this.#asked, wireRequest("api/prod", { usage, model }, 1), waitMs, this.now);
    return this.#asked;
  }

  report(requestId: number, report: Report = {}) {
    const permit = this.#permits.get(requestId) ?? assert.fail(`${requestId} was not granted`);
    this.#permits.delete(requestId);
    this.#live -= 1;
    return this.share.report(permit, wireReport("", report), this.now);
  }

  /** Goes to the next moment at which something happens, as long as there is one before `until`. */
  run(until: bigint): void {
    for (let next = this.share.nextPoll; next !== undefined && next <= until; next = this.share.nextPoll) {
      this.now = next;
      this.share.poll(this.now);
    }
    this.now = until;
  }

  after(seconds: bigint): this {
    this.run(this.now + seconds * SECOND);
    return this;
  }

  /** Requests that were granted, in order, with seconds since the beginning. */
  get order(): [number, number][] {
    return this.granted.map(({ requestId, at }) => [requestId, Number(at - 1_000n * SECOND) / 1e9]);
  }
}

describe("a share", () => {
  test("starts empty, and is granted from as it refills", () => {
    const stage = new Stage(limit("requests", 60n, 2n), limit("tokens", 6_000n, 600n));
    const [first, second] = [stage.ask({ inputTokens: 50 }), stage.ask({ inputTokens: 300 })];
    assert.deepEqual(stage.after(10n).order, [
      [first, 1],
      // Tokens bind: 350 at 100 a second.
      [second, 3.5],
    ]);
  });

  test("is settled by what was used: debt is paid before anything else", () => {
    const stage = new Stage(limit("tokens", 6_000n, 600n));
    const first = stage.ask({ tokens: 300 });
    stage.after(3n).report(first, { usage: { tokens: 600 } });
    const second = stage.ask({ tokens: 100 });
    stage.after(20n).report(second, { outcome: "cancelled" });
    const third = stage.ask({ tokens: 600 });
    assert.deepEqual(stage.order, [
      [first, 3],
      [second, 7],
      [third, 23],
    ]);
  });

  test("refuses at once what it never holds, and what cannot be in time", () => {
    const stage = new Stage(limit("tokens", 6_000n, 600n));
    const large = stage.refused.get(stage.ask({ tokens: 601 }));
    assert.deepEqual([large?.reason, large?.limit, large?.isImpossible], ["LARGER_THAN_LIMIT", "tokens/1m", true]);
    const late = stage.refused.get(stage.ask({ tokens: 200 }, { waitMs: 1_999 }));
    assert.deepEqual([late?.reason, late?.retryAfterMs], ["NOT_IN_TIME", 2_000]);
    assert.match(late?.message ?? "", /local share/);
    assert.equal(stage.refused.get(stage.ask({ tokens: 1 }, { waitMs: 0 }))?.reason, "NOT_IN_TIME");
    const [ahead, behind] = [stage.ask({ tokens: 200 }), stage.ask({ tokens: 200 }, { waitMs: 3_000 })];
    stage.after(10n);
    assert.deepEqual(stage.order, [[ahead, 2]]);
    assert.equal(stage.refused.get(behind)?.reason, "NOT_IN_TIME");
  });

  test("names the limit that binds, and not just one that is short", () => {
    const stage = new Stage(limit("requests", 600n), limit("tokens", 60n));
    const late = stage.refused.get(stage.ask({ tokens: 10 }, { waitMs: 1_000 }));
    assert.deepEqual([late?.limit, late?.retryAfterMs], ["tokens/1m", 10_000]);
  });

  test("counts what is in flight, and wakes who waits for a slot", () => {
    const stage = new Stage(limit("in_flight", 2n));
    const ids = [1, 2, 3].map(() => stage.ask({}));
    assert.deepEqual(
      stage.granted.map(({ requestId }) => requestId),
      ids.slice(0, 2),
    );
    assert.equal(stage.refused.get(stage.ask({}, { waitMs: 0 }))?.limit, "in_flight");
    stage.report(1);
    assert.equal(stage.granted.at(-1)?.requestId, 3);
  });

  test("lets nobody pass who needs what the first one waits for, and others go", () => {
    const stage = new Stage(
      { ...limit("tokens", 60n), models: "large-*" },
      { ...limit("tokens", 60n), models: "small" },
    );
    const first = stage.ask({ tokens: 30 }, { model: "large-1" });
    const second = stage.ask({ tokens: 1 }, { model: "large-2" });
    const other = stage.ask({ tokens: 1 }, { model: "small" });
    const free = stage.ask({ tokens: 1_000 }, { model: "unlimited" });
    assert.deepEqual(stage.after(60n).order, [
      [free, 0],
      [other, 1],
      [first, 30],
      [second, 31],
    ]);
  });

  test("holds back after a refusal by the provider", () => {
    const stage = new Stage(limit("requests", 6_000n));
    const ids = [stage.ask({}), stage.ask({}), stage.ask({}), stage.ask({})];
    stage.after(1n);
    const told = stage.report(ids[0] ?? 0, { status: 429, retryAfterMs: 5_000 });
    assert.deepEqual([told.outcome, told.settled, told.retry, told.retryAfterMs], ["rate_limited", true, true, 5_000]);
    const next = stage.ask({});
    stage.after(10n);
    assert.deepEqual(stage.order.at(-1), [next, 6]);
    for (const [status, outcome, retry] of [
      [200, "success", false],
      [404, "failed", false],
      [408, "failed", true],
    ] as const) {
      const advice = stage.report(ids[[200, 404, 408].indexOf(status) + 1] ?? 0, { status });
      assert.deepEqual([advice.outcome, advice.retry], [outcome, retry]);
    }
  });

  /** Whatever is asked, reported and cancelled: in no stretch of time is more used than burst + rate x time, from nothing. */
  test("is never over", () => {
    const seed = Number(process.env.PERMITD_SEED ?? Date.now() % 1_000_000);
    console.log(`PERMITD_SEED=${seed}`);
    for (const window of [Window.BUCKET, Window.SLIDING, Window.FIXED, Window.QUANTISED]) {
      const random = new Random(seed + window);
      const stage = new Stage({ ...limit("tokens", 600n, 100n), window });
      const units = new Map<number, number>();
      for (let step = 0; step < 2_000; step += 1) {
        const usage = random.below(12);
        units.set(stage.ask({ tokens: usage }), usage);
        stage.run(stage.now + BigInt(random.below(2_000_000_000)));
      }
      const [most, per] = window === Window.QUANTISED ? [10, 1n] : [600, 60n];
      assert.ok(stage.granted.length > 500);
      const grants = stage.granted.map(({ requestId, at }) => ({ at, used: units.get(requestId) ?? 0 }));
      for (const [index, { at }] of grants.entries()) {
        let used = 0;
        for (const grant of grants.slice(index, index + 200)) {
          used += grant.used;
          const span = Number(grant.at - at) / 1e9;
          const bound = window === Window.BUCKET ? 100 + 10 * span : most * (Math.floor(span / Number(per)) + 1);
          assert.ok(used <= bound + 1e-6, `window ${window}: ${used} within ${span} s, at most ${bound}`);
        }
      }
    }
  });
});

test("globs stand for whole names", () => {
  const cases: [string, string, boolean][] = [
    ["", "anything", true],
    ["claude-*", "claude-opus-4", true],
    ["claude-*", "gpt", false],
    ["gpt-?", "gpt-5", true],
    ["gpt-?", "gpt-55", false],
    ["*mini*", "gpt-5-mini-x", true],
    ["a*b*c", "aXbYbZc", true],
    ["模?", "模型", true],
    ["plain", "plainer", false],
  ];
  for (const [pattern, name, wanted] of cases) assert.equal(matches(pattern, name), wanted, `${pattern} ${name}`);
});

/** A small generator (splitmix64): the same seed does the same things. */
class Random {
  #state: bigint;

  constructor(seed: number) {
    this.#state = BigInt(seed);
  }

  below(bound: number): number {
    const wrap = (value: bigint) => BigInt.asUintN(64, value);
    this.#state = wrap(this.#state + 0x9e3779b97f4a7c15n);
    let mixed = this.#state;
    mixed = wrap((mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n);
    mixed = wrap((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn);
    return Number((mixed ^ (mixed >> 31n)) % BigInt(bound));
  }
}
