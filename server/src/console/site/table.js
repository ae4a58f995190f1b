// A table whose rows are kept while what they show changes.

import { el, say } from "./dom.js";

/**
 * Columns have a `head`, and either `text(item)`, or `draw(cell, item)` for anything else; `number` aligns them right. Columns with an
 * `order` can be sorted by: their head is a button, and `sort(order)` is called. The first column names its row.
 */
export class Table {
  constructor({ caption, columns, key, empty, sort, kind }) {
    this.columns = columns;
    this.key = key;
    this.rows = new Map();
    this.body = el("tbody");
    this.heads = columns.map((column) => head(column, sort));
    this.empty = el("p", { class: "faint" }, empty);
    const top = el("thead", {}, el("tr", {}, ...this.heads));
    this.table = el("table", { class: kind }, el("caption", { class: "unseen" }, caption), top, this.body);
    // Until something is known, nothing is said.
    this.table.hidden = this.empty.hidden = true;
    this.element = el("div", { class: "scroll" }, this.table, this.empty);
  }

  /** Marks the column that the rows are sorted by. */
  sorted(order, reversed) {
    this.columns.forEach((column, at) => {
      if (!column.order) return;
      const way = (column.order === "name") === reversed ? "descending" : "ascending";
      this.heads[at].setAttribute("aria-sort", column.order === order ? way : "none");
    });
  }

  show(items) {
    this.table.hidden = items.length === 0;
    this.empty.hidden = items.length > 0;
    const wanted = new Map(items.map((item) => [this.key(item), item]));
    for (const [key, row] of this.rows) {
      if (wanted.has(key)) continue;
      row.remove();
      this.rows.delete(key);
    }
    for (const [key, item] of wanted) {
      if (!this.rows.has(key)) this.rows.set(key, this.row());
      this.draw(this.rows.get(key), item);
    }
    this.arrange([...wanted.keys()].map((key) => this.rows.get(key)));
  }

  row() {
    const cells = this.columns.map((column, at) =>
      at === 0 ? el("th", { scope: "row", class: column.class }) : el("td", { class: kind(column) }),
    );
    return el("tr", {}, ...cells);
  }

  draw(row, item) {
    this.columns.forEach((column, at) => {
      const cell = row.cells[at];
      if (column.draw) column.draw(cell, item);
      else say(cell, column.text(item));
      // Too long a name is cut where it stands.
      if (column.class === "name" && cell.title !== cell.textContent) cell.title = cell.textContent;
    });
  }

  /** Puts rows in order. Under a pointer or the focus nothing moves, so that nobody opens another row than they meant. */
  arrange(rows) {
    const held = this.body.matches(":hover") || this.body.contains(document.activeElement);
    if (held) {
      const place = (row) => (row.parentNode ? row.sectionRowIndex : Infinity);
      const places = new Map(rows.map((row) => [row, place(row)]));
      rows.sort((one, other) => (places.get(one) === places.get(other) ? 0 : places.get(one) - places.get(other)));
    }
    rows.forEach((row, at) => {
      if (this.body.rows[at] !== row) this.body.insertBefore(row, this.body.rows[at] ?? null);
    });
  }
}

function kind(column) {
  return column.number ? "number" : column.class;
}

function head(column, sort) {
  const label = column.order
    ? el("button", { type: "button", class: "head", click: () => sort(column.order) }, column.head)
    : column.head;
  return el("th", { scope: "col", class: kind(column) }, label);
}
