// One budget: what it does and why, its limits over time, who waits, who was refused, and who changed it.

import { ask } from "./api.js";
import { changeLimits } from "./change.js";
import { Chart, History } from "./chart.js";
import { el, say, section } from "./dom.js";
import { steer } from "./steer.js";
import { LimitHistory, SECONDS, tables } from "./tables.js";
import { counted, grouped, halt, short } from "./words.js";

/** What the sentences are about, in the order in which they are told; of all else there are tables. */
const TOPICS = { held: "Now", learned: "Learned", advice: "What would help" };
/** What is counted of a budget. */
const COUNTS = {
  waiting: "Waiting",
  in_flight: "In flight",
  rate: "Granted/s",
  granted_total: "Granted",
  refused_total: "Refused",
  rate_limited_total: "429s",
};

export class BudgetPage {
  constructor(name, refresh) {
    Object.assign(this, { name, title: name, refresh });
    this.histories = new Map();
    this.rates = new History(SECONDS);
    this.waits = new History(SECONDS);
    this.state = el("span", { class: "badge" });
    this.change = el("button", { type: "button", click: () => changeLimits(this.told, refresh) }, "Change limits…");
    this.pause = el("button", { type: "button", click: () => this.steer() }, "Pause…");
    this.actions = el("div", { class: "actions", hidden: true }, this.change, this.pause);
    this.counts = Object.entries(COUNTS).map(([count, text]) => [count, text, el("dd", {})]);
    const facts = el("dl", { class: "counts" }, ...this.counts.map(([, text, value]) => el("div", {}, el("dt", {}, text), value)));
    this.findings = el("div", { class: "findings" });
    this.rateChart = new Chart({ width: 300, height: 48, lines: ["area"] });
    this.waitChart = new Chart({ width: 300, height: 48, lines: ["area warm"] });
    this.tables = tables();
    this.otherLimits = el("p", { class: "faint" });
    this.otherTenants = el("p", { class: "faint" });
    this.element = el("div", {}, this.head(), facts, this.charts(), ...this.sections());
  }

  head() {
    this.owner = el("span", { class: "faint" });
    return el("div", { class: "title" }, el("h1", { class: "name" }, this.name), this.state, this.owner, this.actions);
  }

  charts() {
    const figure = (chart, text) => el("figure", {}, el("figcaption", {}, text), chart.element);
    return el("div", { class: "charts" }, figure(this.rateChart, "Granted a second"), figure(this.waitChart, "Waiting"));
  }

  sections() {
    const { limits, lines, tenants, refusals, answers, changes } = this.tables;
    const legend = el(
      "p",
      { class: "legend faint" },
      el("span", { class: "key level" }, "level"),
      el("span", { class: "key effective" }, "effective limit"),
      el("span", { class: "key configured" }, "configured limit"),
      `since this page was opened, at most ${SECONDS / 60} minutes`,
    );
    return [
      this.findings,
      section("Limits", legend, limits.element, this.otherLimits),
      section("Who waits", lines.element),
      section("Tenants", tenants.element, this.otherTenants),
      section("Refused of late", refusals.element),
      section("What the provider refused", answers.element),
      section("Who did what", changes.element),
    ];
  }

  steer() {
    steer(this.told.paused || this.told.exhausted ? "resume" : "pause", this.told, this.refresh);
  }

  /** Changes are asked for when there may be another one. */
  async ask() {
    const told = await ask("budget", { budget: this.name });
    const { etag, paused, exhausted } = told.state;
    const known = JSON.stringify([etag, paused, exhausted]);
    if (known !== this.known) {
      told.changes = (await ask("changes", { budget: this.name })).changes;
      this.known = known;
    }
    return told;
  }

  show({ now, caller, state, findings, lines, refusals, answers, changes, other_limits, other_tenants }) {
    const seconds = this.told ? (Date.parse(now) - Date.parse(this.now)) / 1_000 : 0;
    const granted = this.told ? Math.max(state.granted_total - this.told.granted_total, 0) : 0;
    this.told = state;
    this.now = now;
    this.actions.hidden = !caller.may_steer;
    this.showState(now);
    this.showCounts(seconds > 0 ? granted / seconds : 0);
    this.showFindings(findings);
    const at = new Map(state.limits.map((limit) => [limit.name, limit]));
    this.histories = new Map([...at.keys()].map((name) => [name, this.histories.get(name) ?? new LimitHistory()]));
    for (const [name, limit] of at) Object.assign(limit, { now, history: this.histories.get(name).take(limit) });
    this.tables.limits.show([...at.values()]);
    this.tables.lines.show(lines);
    this.tables.tenants.show(state.tenants.map((tenant) => ({ ...tenant, ...state.declared.tenants[tenant.tenant] })));
    say(this.otherLimits, other_limits > 0 ? `and ${counted(other_limits, "limit", "limits")} more` : "");
    say(this.otherTenants, other_tenants > 0 ? `and ${counted(other_tenants, "tenant that is", "tenants that are")} less busy` : "");
    this.tables.refusals.show(refusals);
    this.tables.answers.show(answers);
    if (changes) this.tables.changes.show(changes);
  }

  showState(now) {
    const frozen = this.told.limits.map((limit) => limit.frozen_until).filter(Boolean).sort();
    const halted = halt({ ...this.told, frozen_until: frozen.at(-1) }, now);
    say(this.state, halted || (this.told.shadow ? "shadow: grants everything" : "granting"));
    say(this.owner, this.told.owner ? `at ${this.told.owner}` : "");
    this.state.className = `badge ${halted ? "trouble" : "well"}`;
    say(this.pause, this.told.paused || this.told.exhausted ? "Resume…" : "Pause…");
  }

  showCounts(rate) {
    for (const [count, , value] of this.counts) say(value, count === "rate" ? short(rate) : grouped(this.told[count]));
    this.rates.push(rate);
    this.waits.push(this.told.waiting);
    const draw = (chart, history, what) => {
      const top = Math.max(...history.values, 1);
      chart.draw([history], top, `${what}: ${grouped(history.values.at(-1))} now, at most ${grouped(top)}`);
    };
    draw(this.rateChart, this.rates, "granted a second");
    draw(this.waitChart, this.waits, "waiting");
  }

  showFindings(findings) {
    const text = JSON.stringify(findings);
    if (text === this.found) return;
    this.found = text;
    const parts = Object.entries(TOPICS).map(([topic, title]) => [title, findings.filter((finding) => finding.topic === topic)]);
    this.findings.replaceChildren(...parts.filter(([, told]) => told.length > 0).map(([title, told]) => section(title, ...told.map(sentence))));
  }
}

function sentence({ text, command }) {
  const line = el("p", {}, text);
  if (command) line.append(" ", el("code", {}, command));
  return line;
}
