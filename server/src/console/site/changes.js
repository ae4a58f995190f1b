// Who did what: the audit trail, newest first.

import { ask } from "./api.js";
import { drawBudget, el, say } from "./dom.js";
import { Table } from "./table.js";
import { moment } from "./words.js";

/** A table of changes, of one budget or, with their names, of all. */
export function changesTable({ ofAll }) {
  const name = { head: "Budget", class: "name", draw: (cell, { budget }) => drawBudget(cell, budget) };
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
    key: keyOf,
    empty: "Nobody has changed anything yet.",
  });
}

function keyOf({ at, budget, what }) {
  return JSON.stringify([at, budget, what]);
}

/** What is there in place of what, and what else is told of a change. */
const SIGNS = { "+": "plus", "-": "minus" };

export function drawDifference(cell, { difference }) {
  const text = difference.join("\n");
  if (cell.textContent === difference.join("")) return;
  cell.replaceChildren(...difference.map((line) => el("div", { class: SIGNS[line[0]] ?? "" }, line)));
  cell.setAttribute("title", text);
}

/** Changes that are kept on the page, with older ones that were asked for. */
const MOST = 1_000;

export class ChangesPage {
  constructor() {
    this.title = "Changes";
    this.changes = [];
    this.table = changesTable({ ofAll: true });
    this.older = el("button", { type: "button", hidden: true, click: () => this.more() }, "Older ones");
    this.complaint = el("p", { role: "alert", class: "complaint" });
    const below = el("div", { class: "pager" }, this.older, this.complaint);
    this.element = el("div", {}, el("h1", {}, "Changes"), this.table.element, below);
  }

  ask() {
    return ask("changes", {});
  }

  /** New ones come on top. Where they join nothing that is known, or there are too many, the page begins anew. */
  show({ changes, next_page_token }) {
    const known = new Set(this.changes.map(keyOf));
    const fresh = changes.filter((change) => !known.has(keyOf(change)));
    const joined = [...fresh, ...this.changes];
    const anew = fresh.length === changes.length || joined.length > MOST;
    this.changes = anew ? changes : joined;
    if (anew) this.next = next_page_token;
    this.draw();
  }

  draw() {
    this.table.show(this.changes);
    this.older.hidden = !this.next;
  }

  async more() {
    try {
      const { changes, next_page_token } = await ask("changes", { page_token: this.next });
      this.changes = [...this.changes, ...changes];
      this.next = next_page_token;
      this.draw();
      say(this.complaint, "");
    } catch (problem) {
      say(this.complaint, problem.message);
    }
  }
}
