// Limits by the hours: which of them are in force when, by the clocks of the place that the schedule names first.

import { ask } from "./api.js";
import { el, section } from "./dom.js";
import { Table } from "./table.js";
import { calendar } from "./words.js";

const NOTE = "The hours as they are declared; of several for one limit the first counts:";

export class Schedule {
  constructor(budget) {
    this.budget = budget;
    this.table = new Table({
      caption: "What is in force, and until when",
      columns: [
        { head: "From", class: "when", text: ({ from }) => from },
        { head: "Until", class: "when", text: ({ until }) => until },
        { head: "Limits", class: "code", text: ({ limits }) => limits.join("\n") },
      ],
      key: ({ place }) => place,
      kind: "hours",
      empty: "These hours change nothing within a week.",
    });
    this.hours = el("ul", { class: "lines" });
    this.element = section("Limits by the hours", this.table.element, el("p", { class: "faint" }, NOTE), this.hours);
    this.element.hidden = true;
  }

  /** Asks for what is in force when, if another schedule is declared, or what was in force is over; else tells nothing. */
  async ask({ now, state }) {
    const declared = JSON.stringify([state.etag, state.declared.schedule]);
    const holds = declared === this.known && !(Date.parse(now) >= this.until);
    if (state.declared.schedule.length === 0 || holds) return undefined;
    const told = await ask("schedule", { budget: this.budget });
    this.known = declared;
    this.until = Date.parse(told.course[0]?.until);
    return told;
  }

  /** `told` is what was asked for, if it was. */
  show(entries, told) {
    this.element.hidden = entries.length === 0;
    if (!told) return;
    const at = calendar(told.zone);
    const row = ({ from, until, limits }, place) => ({ place, from: place === 0 ? "now" : at(from), until: at(until), limits });
    this.table.show(told.course.map(row));
    this.hours.replaceChildren(...entries.map((entry) => el("li", {}, el("code", {}, entry))));
  }
}
