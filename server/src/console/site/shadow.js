// What the limits of a budget in shadow mode would have done, had they held anybody.

import { el, say, section } from "./dom.js";
import { grouped, moment, span } from "./words.js";

/** What is told, and how. */
const COUNTS = [
  ["Would wait now", ({ waiting }) => grouped(waiting)],
  ["In flight", ({ in_flight }) => grouped(in_flight)],
  ["Granted", ({ granted_total }) => grouped(granted_total)],
  ["After a wait", ({ waited_total }) => grouped(waited_total)],
  ["Wait on average", ({ waited_total, wait_total_seconds }) => (waited_total > 0 ? span(wait_total_seconds / waited_total) : "none")],
  ["Longest wait", ({ waited_total, wait_longest_seconds }) => (waited_total > 0 ? span(wait_longest_seconds) : "none")],
  ["Refused", ({ refused_total }) => grouped(refused_total)],
];

export class Shadow {
  constructor() {
    this.since = el("p", { class: "faint" });
    this.counts = COUNTS.map(([name, text]) => [name, text, el("dd", {})]);
    const facts = el("dl", { class: "counts" }, ...this.counts.map(([name, , value]) => el("div", {}, el("dt", {}, name), value)));
    this.reasons = el("p", { class: "faint" });
    this.element = section("What the limits would have done", this.since, facts, this.reasons);
    this.element.hidden = true;
  }

  /** `would` is what the budget tells of it; nothing unless it is in shadow mode. */
  show(would) {
    this.element.hidden = !would;
    if (!would) return;
    say(this.since, `Shadow mode since ${moment(would.since)}: everybody is granted at once, and beside that the limits are tried out.`);
    for (const [, text, value] of this.counts) say(value, text(would));
    const reasons = Object.entries(would.refused).map(([reason, times]) => `${reason} ${grouped(times)}`);
    say(this.reasons, reasons.length > 0 ? `Refused for ${reasons.join(", ")}` : "");
  }
}
