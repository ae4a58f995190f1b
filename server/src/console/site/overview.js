// All budgets, those first that somebody should look at.

import { ask } from "./api.js";
import { Chart, drawBar, History } from "./chart.js";
import { el, field, say } from "./dom.js";
import { Table } from "./table.js";
import { counted, grouped, halt, percent, short } from "./words.js";

/** Seconds that are remembered of each budget on the page. */
const SECONDS = 60;

export class OverviewPage {
  constructor(refresh) {
    this.title = "Budgets";
    this.refresh = refresh;
    this.wanted = { filter: "", order: "pressure", reversed: false, after: 0 };
    this.seen = new Map();
    this.sums = el("p", { class: "sums" });
    this.filter = el("input", { type: "search", placeholder: "part of a name, or a glob", input: () => this.search() });
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
    this.element = el("div", {}, el("h1", { class: "unseen" }, "Budgets"), this.sums, tools, this.table.element, this.pager);
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
      { head: "State", class: "state", text: (row) => row.halt || (row.shadow ? "shadow" : "") },
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
    const { budgets, waiting, in_flight, after, rows } = overview;
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
    this.pager.hidden = budgets <= rows.length;
    this.before.disabled = after === 0;
    this.behind.disabled = after + rows.length >= budgets;
    this.step = Math.max(rows.length, this.step ?? 0);
    say(this.range, `${grouped(after + 1)} to ${grouped(after + rows.length)} of ${grouped(budgets)}`);
  }

  search() {
    Object.assign(this.wanted, { filter: this.filter.value, after: 0 });
    this.refresh();
  }

  /** The same once more turns the order around. */
  sort(order) {
    const reversed = this.wanted.order === order && !this.wanted.reversed;
    Object.assign(this.wanted, { order, reversed, after: 0 });
    this.refresh();
  }

  turn(by) {
    this.wanted.after = Math.max(this.wanted.after + by * this.step, 0);
    this.refresh();
  }
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
  if (!cell.firstChild) cell.append(el("a", {}));
  cell.firstChild.setAttribute("href", `#/budget/${encodeURIComponent(budget)}`);
  say(cell.firstChild, budget);
  cell.parentNode.className = halt ? "trouble" : waiting > 0 || taken_permille >= 900 ? "warning" : "";
}

function drawRates(cell, { seen }) {
  cell.chart ??= new Chart({ width: 120, height: 20, lines: ["area"] });
  if (!cell.firstChild) cell.append(cell.chart.element);
  const top = Math.max(...seen.rates.values, 1);
  cell.chart.draw([seen.rates], top, `granted a second, at most ${grouped(top)}`);
}
