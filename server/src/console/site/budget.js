// One budget: what it does and why, its limits over time and by the hours, who waits, who was refused, and who changed it.

import { ask } from "./api.js";
import { changeLimits } from "./change.js";
import { Chart, History } from "./chart.js";
import { drawPool, el, say, section } from "./dom.js";
import { Schedule } from "./schedule.js";
import { Shadow } from "./shadow.js";
import { steer } from "./steer.js";
import { LimitHistory, SECONDS, tables } from "./tables.js";
import { counted, grouped, halt, short } from "./words.js";

/** What the sentences are about, in the order in which they are told; of all else there are tables. */
const TOPICS = { held: "Now", learned: "Learned", advice: "What would help" };
/** In shadow mode nobody waits, so no table tells who would. */
const SHADOW_TOPICS = { held: "Now", waiting: "Who would wait", learned: "Learned", advice: "What would help" };
const GUARANTEES =
  "At least: what is guaranteed of each limit while the tenant has work waiting; what it does not use is lent. At most: all that it may have, even if nobody else wants it.";
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
    this.schedule = new Schedule(name);
    this.shadow = new Shadow();
    this.guarantees = el("p", { class: "faint", hidden: true }, GUARANTEES);
    this.command = el("code", { class: "command" });
    this.otherWaiting = el("p", { class: "faint" });
    this.otherLimits = el("p", { class: "faint" });
    this.otherTenants = el("p", { class: "faint" });
    this.pools = el("p", { class: "faint", hidden: true });
    this.element = el("div", {}, this.head(), this.pools, facts, this.charts(), ...this.sections());
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
    this.declared = section("What is declared", el("p", {}, this.command));
    this.declared.hidden = true;
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
      this.shadow.element,
      section("Limits", legend, limits.element, this.otherLimits),
      this.schedule.element,
      section("Who waits", lines.element, this.otherWaiting),
      section("Tenants", this.guarantees, tenants.element, this.otherTenants),
      section("Refused of late", refusals.element),
      section("What the provider refused", answers.element),
      this.declared,
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
    told.hours = await this.schedule.ask(told);
    return told;
  }

  show({ now, caller, state, findings, lines, refusals, answers, pools, changes, hours, command, others_waiting, other_limits, other_tenants }) {
    const seconds = this.told ? (Date.parse(now) - Date.parse(this.now)) / 1_000 : 0;
    const granted = this.told ? Math.max(state.granted_total - this.told.granted_total, 0) : 0;
    this.told = state;
    this.now = now;
    this.actions.hidden = !caller.may_steer;
    this.showState(now);
    this.showPools(pools);
    this.showCounts(seconds > 0 ? granted / seconds : 0);
    this.showFindings(findings, state.shadow ? SHADOW_TOPICS : TOPICS);
    const at = new Map(state.limits.map((limit) => [limit.name, limit]));
    this.histories = new Map([...at.keys()].map((name) => [name, this.histories.get(name) ?? new LimitHistory()]));
    const declared = new Map(state.declared.limits.map((limit) => [limit.name, limit]));
    for (const [name, limit] of at) {
      const usual = declared.get(name);
      const otherwise = state.declared.schedule.length > 0 && usual && usual.limit !== limit.limit ? usual.amount : undefined;
      Object.assign(limit, { now, otherwise, history: this.histories.get(name).take(limit) });
    }
    this.tables.limits.show([...at.values()]);
    this.tables.lines.show(lines);
    const tenants = state.tenants.map((tenant) => ({ ...tenant, ...state.declared.tenants[tenant.tenant] }));
    this.tables.tenants.show(tenants);
    this.guarantees.hidden = !tenants.some(({ min_percent, max_percent }) => min_percent || max_percent);
    this.schedule.show(state.declared.schedule, hours);
    this.shadow.show(state.shadow);
    this.declared.hidden = !command;
    say(this.command, command ?? "");
    say(this.otherWaiting, others_waiting > 0 ? `and ${counted(others_waiting, "request", "requests")} more` : "");
    say(this.otherLimits, other_limits > 0 ? `and ${counted(other_limits, "limit", "limits")} more` : "");
    say(this.otherTenants, other_tenants > 0 ? `and ${counted(other_tenants, "tenant that is", "tenants that are")} less busy` : "");
    this.tables.refusals.show(refusals);
    this.tables.answers.show(answers);
    if (changes) this.tables.changes.show(changes);
  }

  showState(now) {
    const frozen = this.told.limits.map((limit) => limit.frozen_until).filter(Boolean).sort();
    const halted = halt({ ...this.told, frozen_until: frozen.at(-1) }, now);
    const shadow = this.told.shadow && (halted ? "shadow" : "shadow: grants everything");
    say(this.state, [halted, shadow].filter(Boolean).join(", ") || "granting");
    say(this.owner, this.told.owner ? `at ${this.told.owner}` : "");
    this.state.className = `badge ${halted ? "trouble" : "well"}`;
    say(this.pause, this.told.paused || this.told.exhausted ? "Resume…" : "Pause…");
  }

  /** Of which pools it is a member. */
  showPools(pools) {
    const text = JSON.stringify(pools);
    if (text === this.pooled) return;
    this.pooled = text;
    this.pools.hidden = pools.length === 0;
    const links = pools.map((pool) => {
      const link = el("span", {});
      drawPool(link, pool);
      return link;
    });
    this.pools.replaceChildren(pools.length === 1 ? "In the pool" : "In the pools", ...links.flatMap((link) => [" ", link]));
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

  showFindings(findings, topics) {
    const text = JSON.stringify([findings, topics]);
    if (text === this.found) return;
    this.found = text;
    const parts = Object.entries(topics).map(([topic, title]) => [title, findings.filter((finding) => finding.topic === topic)]);
    this.findings.replaceChildren(...parts.filter(([, told]) => told.length > 0).map(([title, told]) => section(title, ...told.map(sentence))));
  }
}

function sentence({ text, command }) {
  const line = el("p", {}, text);
  if (command) line.append(" ", el("code", {}, command));
  return line;
}
