// The tables of one budget's page.

import { changesTable } from "./changes.js";
import { Chart, drawBar, History } from "./chart.js";
import { Table } from "./table.js";
import { grouped, left, moment, percent, span } from "./words.js";

/** Seconds that the charts show. */
export const SECONDS = 300;

/** What a limit was of late. */
export class LimitHistory {
  constructor() {
    this.lines = [new History(SECONDS), new History(SECONDS), new History(SECONDS)];
  }

  take({ level, effective_amount, amount }) {
    [level, effective_amount, amount].forEach((value, at) => this.lines[at].push(value));
    return this;
  }
}

function drawLimit(cell, { history, level, effective_amount, amount }) {
  cell.chart ??= new Chart({ width: 220, height: 34, lines: ["area", "configured", "effective"] });
  if (!cell.firstChild) cell.append(cell.chart.element);
  const [levels, effective, configured] = history.lines;
  const top = Math.max(...levels.values, ...effective.values, ...configured.values, 1);
  const label = `level ${grouped(level)}, effective ${grouped(effective_amount)}, configured ${grouped(amount)}`;
  cell.chart.draw([levels, configured, effective], top, label);
}

function drawTaken(cell, { taken_permille }) {
  drawBar(cell, taken_permille, percent(taken_permille));
}

/** `otherwise` is what is declared for the hours that no schedule names, where others are in force. */
function remark({ frozen_until, learned_from, otherwise, now }) {
  const hours = otherwise && `by the hours; otherwise ${grouped(otherwise)}`;
  const lesson = learned_from && `from ${learned_from}`;
  return [frozen_until && `frozen, ${left(frozen_until, now)}`, hours, !frozen_until && lesson].filter(Boolean).join("; ");
}

function share(percent) {
  return percent ? `${percent} %` : "";
}

/** Every table of a budget's page. */
export function tables() {
  const limits = [
    { head: "Limit", class: "name", text: (limit) => limit.name },
    { head: "Taken", draw: drawTaken },
    { head: "Free", number: true, text: (limit) => grouped(limit.level) },
    { head: "Effective", number: true, text: (limit) => grouped(limit.effective_amount) },
    { head: "Configured", number: true, text: (limit) => grouped(limit.amount) },
    { head: "Over time", class: "chart-cell", draw: drawLimit },
    { head: "By", text: (limit) => limit.source },
    { head: "State", class: "state", text: remark },
  ];
  const lines = [
    { head: "Tenant", class: "name", text: (line) => line.tenant },
    { head: "Priority", text: (line) => line.priority },
    { head: "Model", class: "name", text: (line) => line.model },
    { head: "Waiting", number: true, text: (line) => grouped(line.waiting) },
    { head: "For", number: true, text: (line) => span(line.oldest_seconds) },
    { head: "Still, about", number: true, text: (line) => span(line.estimated_wait_seconds) },
    { head: "Held by", class: "name", text: (line) => line.held_by },
  ];
  const tenants = [
    { head: "Tenant", class: "name", text: (tenant) => tenant.tenant },
    { head: "Weight", number: true, text: (tenant) => grouped(tenant.weight ?? 1) },
    { head: "At least", number: true, text: (tenant) => share(tenant.min_percent) },
    { head: "At most", number: true, text: (tenant) => share(tenant.max_percent) },
    { head: "May wait", number: true, text: (tenant) => (tenant.max_waiting ? grouped(tenant.max_waiting) : "") },
    { head: "Waiting", number: true, text: (tenant) => grouped(tenant.waiting) },
    { head: "In flight", number: true, text: (tenant) => grouped(tenant.in_flight) },
    { head: "Granted", number: true, text: (tenant) => grouped(tenant.granted_total) },
  ];
  const refusals = [
    { head: "Last", class: "when", text: (refusal) => moment(refusal.last_at) },
    { head: "Times", number: true, text: (refusal) => grouped(refusal.times) },
    { head: "Tenant", class: "name", text: (refusal) => refusal.tenant },
    { head: "Reason", text: (refusal) => refusal.reason },
    { head: "What was said", class: "wide", text: (refusal) => refusal.message },
  ];
  const answers = [
    { head: "Last", class: "when", text: (answer) => moment(answer.last_at) },
    { head: "Times", number: true, text: (answer) => grouped(answer.times) },
    { head: "Outcome", text: (answer) => answer.outcome },
    { head: "Model", class: "name", text: (answer) => answer.model },
    { head: "Asked to wait", number: true, text: (answer) => span(answer.retry_after_seconds) },
    { head: "Froze", class: "name", text: (answer) => answer.froze.join(", ") },
  ];
  const table = (caption, columns, key, empty) => new Table({ caption, columns, key, empty });
  return {
    limits: table("Limits", limits, (limit) => limit.name, "There are no limits."),
    lines: table("Who waits", lines, (line) => JSON.stringify([line.tenant, line.priority, line.limit, line.model]), "Nobody waits."),
    tenants: table("Tenants", tenants, (tenant) => tenant.tenant, "Nobody has asked yet."),
    refusals: table("Refused", refusals, (refusal) => JSON.stringify([refusal.first_at, refusal.reason, refusal.tenant, refusal.limit]), "Nobody was refused."),
    answers: table("Refused by the provider", answers, (answer) => JSON.stringify([answer.first_at, answer.outcome, answer.model]), "The provider refused nothing."),
    changes: changesTable({ ofAll: false }),
  };
}
