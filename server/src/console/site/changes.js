// Who did what: the audit trail, newest first.

import { ask } from "./api.js";
import { el } from "./dom.js";
import { Table } from "./table.js";
import { moment } from "./words.js";

/** A table of changes, of one budget or, with their names, of all. */
export function changesTable({ ofAll }) {
  const name = { head: "Budget", class: "name", text: (change) => change.budget };
  return new Table({
    caption: "Changes",
    columns: [
      { head: "When", class: "when", text: (change) => moment(change.at) },
      { head: "Who", class: "name", text: (change) => change.who },
      { head: "What", text: (change) => change.what },
      ...(ofAll ? [name] : []),
      { head: "Difference", class: "code", draw: drawDifference },
      { head: "Why", class: "name", text: (change) => change.reason },
    ],
    key: (change) => JSON.stringify([change.at, change.budget, change.what]),
    empty: "Nobody has changed anything yet.",
  });
}

/** What is there in place of what. */
export function drawDifference(cell, { difference }) {
  const text = difference.join("\n");
  if (cell.textContent === difference.join("")) return;
  cell.replaceChildren(...difference.map((line) => el("div", { class: line.startsWith("+") ? "plus" : "minus" }, line)));
  cell.setAttribute("title", text);
}

export class ChangesPage {
  constructor() {
    this.title = "Changes";
    this.table = changesTable({ ofAll: true });
    this.older = el("button", { type: "button", hidden: true, click: () => this.more() }, "Older ones");
    this.element = el("div", {}, el("h1", {}, "Changes"), this.table.element, el("div", { class: "pager" }, this.older));
    this.tail = [];
  }

  ask() {
    return ask("changes", {});
  }

  /** The newest page is live; what was asked for beyond it stays below. */
  show({ changes, next_page_token }) {
    this.head = changes;
    if (this.tail.length === 0) this.next = next_page_token;
    this.draw();
  }

  draw() {
    this.table.show([...this.head, ...this.tail]);
    this.older.hidden = !this.next;
  }

  async more() {
    const { changes, next_page_token } = await ask("changes", { page_token: this.next });
    this.tail.push(...changes);
    this.next = next_page_token;
    this.draw();
  }
}
