// All budgets, those first that somebody should look at, and the pools that they are in.

import { ask } from "./api.js";
import { Chart, drawBar, History } from "./chart.js";
import { drawBudget, el, field, say } from "./dom.js";
import { Pools } from "./pools.js";
import { Table } from "./table.js";
import { counted, grouped, halt, percent, short } from "./words.js";

/** Seconds that are remembered of each budget on the page. */
const SECONDS = 60;
/** What is wanted where the address says nothing. */
const USUAL = { filter: "", order: "pressure", reversed: false, after: 0 };

const ORDERS = ["pressure", "name", "waiting", "in_flight", "granted", "rate_limited"];

export class OverviewPage {
  /** `address` is what stands behind the question mark: what was wanted when somebody left the page, or sent its address to another. */
  constructor(refresh, address) {
    this.title = "Budgets";
    this.refresh = refresh;
    this.wanted = read(new URLSearchParams(address));
    this.seen = new Map();
    this.sums = el("p", { class: "sums" });
    this.filter = el("input", { type: "search", placeholder: "part of a name, or a glob", value: this.wanted.filter, input: () => this.search() });
    this.table = new Table({
      caption: "Budgets",
      columns: this.columns(),
      key: (row) => row.budget,
      empty: "No budget is to be seen.",
      sort: (order) => this.sort(order),
    });
    this.before = el("button", { type: "button", click: () => this.turn(-1) }, "Previous");
    this.behind = el("button", { type: "button", click: () => this.turn(1) }, "Next");
    this.range = el("span", { class: "faint" });
    this.pager = el("nav", { "aria-label": "Pages of budgets", class: "pager" }, this.before, this.range, this.behind);
    this.pressure = el("button", { type: "button", click: () => this.sort("pressure") }, "By pressure");
    const tools = el("div", { class: "tools" }, field("Filter", this.filter), this.pressure);
    this.pools = new Pools();
    const heading = el("h1", { class: "unseen" }, "Budgets");
    this.element = el("div", {}, heading, this.sums, tools, this.table.element, this.pager, this.pools.element);
  }

  columns() {
    return [
      { head: "Budget", order: "name", class: "name", draw: drawName },
      { head: "Tightest limit", class: "name", text: (row) => row.tightest ?? "no limits" },
      { head: "Taken", draw: (cell, row) => drawBar(cell, row.taken_permille, percent(row.taken_permille)) },
      { head: "Waiting", order: "waiting", number: true, text: (row) => grouped(row.waiting) },
      { head: "In flight", order: "in_flight", number: true, text: (row) => grouped(row.in_flight) },
      { head: "Granted", order: "granted", number: true, text: (row) => short(row.granted_total) },
      { head: "Granted/s", number: true, text: (row) => grouped(row.rate) },
      { head: "Last minute", class: "chart-cell", draw: drawRates },
      { head: "429s", order: "rate_limited", number: true, text: (row) => short(row.rate_limited_total) },
      { head: "State", class: "state", text: (row) => [row.halt, row.shadow && "shadow"].filter(Boolean).join(", ") },
    ];
  }

  /** Something else may be wanted by the time the answer comes. */
  async ask() {
    const asked = JSON.stringify(this.wanted);
    const told = await ask("overview", this.wanted);
    return { ...told, outdated: asked !== JSON.stringify(this.wanted) };
  }

  show({ now, overview, outdated }) {
    if (outdated) return;
    const { budgets, waiting, in_flight, after, rows, pools, more_pools } = overview;
    this.wanted.after = after;
    const seconds = this.now ? (Date.parse(now) - Date.parse(this.now)) / 1_000 : 0;
    this.now = now;
    const before = this.seen;
    // Only what is on the page is remembered.
    this.seen = new Map(rows.map((row) => [row.budget, before.get(row.budget) ?? new Seen()]));
    for (const row of rows) {
      const seen = this.seen.get(row.budget);
      seen.take(row.granted_total, seconds);
      Object.assign(row, { seen, rate: seen.rate, halt: halt(row, now) });
    }
    const matching = this.wanted.filter ? " match" : "";
    const sums = [`${counted(budgets, "budget", "budgets")}${matching}`, `${grouped(waiting)} waiting`];
    say(this.sums, [...sums, `${grouped(in_flight)} in flight`].join(" · "));
    this.pressure.setAttribute("aria-pressed", this.wanted.order === "pressure");
    this.table.sorted(this.wanted.order, this.wanted.reversed);
    this.table.show(rows);
    this.pools.show(pools, more_pools);
    this.pager.hidden = budgets <= rows.length;
    this.before.disabled = after === 0;
    this.behind.disabled = after + rows.length >= budgets;
    this.step = Math.max(rows.length, this.step ?? 0);
    say(this.range, `${grouped(after + 1)} to ${grouped(after + rows.length)} of ${grouped(budgets)}`);
  }

  search() {
    this.want({ filter: this.filter.value, after: 0 });
  }

  /** What is wanted stands in the address, so that whoever comes back finds it. */
  want(other) {
    Object.assign(this.wanted, other);
    const unusual = Object.entries(this.wanted).filter(([name, value]) => value !== USUAL[name]);
    history.replaceState(null, "", unusual.length > 0 ? `#/?${new URLSearchParams(unusual)}` : "#/");
    this.refresh();
  }

  /** The same once more turns the order around. */
  sort(order) {
    const reversed = this.wanted.order === order && !this.wanted.reversed;
    this.want({ order, reversed, after: 0 });
  }

  turn(by) {
    this.want({ after: Math.max(this.wanted.after + by * this.step, 0) });
  }
}

/** What an address says is wanted, as far as it makes sense. */
function read(address) {
  const { filter = "", order = "", reversed = "", after = "" } = Object.fromEntries(address);
  return {
    filter,
    order: ORDERS.includes(order) ? order : USUAL.order,
    reversed: reversed === "true",
    after: /^\d{1,6}$/.test(after) ? Number(after) : USUAL.after,
  };
}

/** What a budget granted of late. */
class Seen {
  constructor() {
    this.rates = new History(SECONDS);
    this.rate = 0;
  }

  take(granted, seconds) {
    if (this.granted !== undefined && seconds > 0) {
      this.rate = Math.max(granted - this.granted, 0) / seconds;
      this.rates.push(this.rate);
    }
    this.granted = granted;
  }
}

function drawName(cell, { budget, halt, waiting, taken_permille }) {
  drawBudget(cell, budget);
  cell.parentNode.className = halt ? "trouble" : waiting > 0 || taken_permille >= 900 ? "warning" : "";
}

function drawRates(cell, { seen }) {
  cell.chart ??= new Chart({ width: 120, height: 20, lines: ["area"] });
  if (!cell.firstChild) cell.append(cell.chart.element);
  const top = Math.max(...seen.rates.values, 1);
  cell.chart.draw([seen.rates], top, `granted a second, at most ${grouped(top)}`);
}
