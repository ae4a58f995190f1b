// Pools: all of them beside the budgets, and one at length: its members, what each could serve, which is next, and why others are passed over.

import { ask } from "./api.js";
import { drawBar } from "./chart.js";
import { drawBudget, drawPool, el, say, section } from "./dom.js";
import { Table } from "./table.js";
import { grouped, percent, short } from "./words.js";

/** All pools at a glance. */
export class Pools {
  constructor() {
    this.table = new Table({
      caption: "Pools",
      columns: [
        { head: "Pool", class: "name", draw: drawRow },
        { head: "Can grant at once", text: ({ can_grant, members }) => `${can_grant} of ${members}` },
        { head: "Next", class: "name", draw: drawNext },
        { head: "Its tightest limit", class: "name", text: ({ next, tightest }) => (next ? (tightest ?? "no limits") : "") },
        { head: "Taken", draw: (cell, { taken_permille }) => drawBar(cell, taken_permille, percent(taken_permille)) },
        { head: "Granted", number: true, text: ({ granted }) => short(granted) },
      ],
      key: ({ pool }) => pool,
      empty: "",
    });
    this.more = el("p", { class: "faint" });
    this.element = section("Pools", this.table.element, this.more);
    this.element.hidden = true;
  }

  show(pools, more) {
    this.element.hidden = pools.length === 0;
    this.table.show(pools);
    say(this.more, more ? "and more, which the filter finds by their names or those of their members" : "");
  }
}

function drawRow(cell, { pool, can_grant, members }) {
  drawPool(cell, pool);
  cell.parentNode.className = can_grant === 0 ? "trouble" : can_grant < members ? "warning" : "";
}

function drawNext(cell, { next }) {
  if (next) drawBudget(cell, next);
  else cell.replaceChildren("nobody");
}

export class PoolPage {
  constructor(name) {
    Object.assign(this, { name, title: name });
    this.state = el("span", { class: "badge" });
    this.members = new Table({
      caption: "Members",
      columns: [
        { head: "Member", class: "name", draw: drawMember },
        { head: "Now", class: "state", text: ({ now }) => now },
        { head: "Prefer", number: true, text: ({ prefer }) => grouped(prefer) },
        { head: "Weight", number: true, text: ({ weight }) => grouped(weight) },
        { head: "Tightest limit", class: "name", text: ({ tightest }) => tightest?.name ?? "no limits" },
        { head: "Taken", draw: drawTaken },
        { head: "Free", number: true, text: ({ tightest }) => (tightest ? grouped(tightest.level) : "") },
        { head: "Of", number: true, text: ({ tightest }) => (tightest ? grouped(tightest.effective_amount) : "") },
        { head: "Waiting", number: true, text: ({ waiting }) => grouped(waiting) },
        { head: "In flight", number: true, text: ({ in_flight }) => grouped(in_flight) },
        { head: "Granted", number: true, text: ({ granted }) => grouped(granted) },
      ],
      key: ({ budget }) => budget,
      empty: "",
    });
    this.over = new Table({
      caption: "Passed over",
      columns: [
        { head: "Member", class: "name", draw: (cell, { budget }) => drawBudget(cell, budget) },
        { head: "Why", class: "wide", text: ({ passed_over }) => passed_over.join(" ") },
      ],
      key: ({ budget }) => budget,
      empty: "No member is.",
    });
    this.element = el(
      "div",
      {},
      el("div", { class: "title" }, el("h1", { class: "name" }, name), this.state),
      section("Members", this.members.element),
      el("p", { class: "faint" }, NOTE),
      section("Passed over", this.over.element),
    );
  }

  ask() {
    return ask("pool", { pool: this.name });
  }

  show({ members }) {
    const next = members.find((member) => member.next);
    say(this.state, next ? `next: ${next.budget}` : "nobody can grant at once");
    this.state.className = `badge ${next ? "well" : "trouble"}`;
    this.members.show(members);
    this.over.show(members.filter(({ passed_over }) => passed_over.length > 0));
  }
}

const NOTE =
  "Members with a lower number in Prefer are asked first; among those alike that can grant, permits go by weight. The next grants whoever comes and fits. " +
  "Granted: what the pool handed out; all else is of the member, however it was asked for.";

function drawMember(cell, { budget, passed_over, waiting }) {
  drawBudget(cell, budget);
  cell.parentNode.className = passed_over.length > 0 ? "trouble" : waiting > 0 ? "warning" : "";
}

function drawTaken(cell, { tightest }) {
  const taken = tightest?.taken_permille ?? 0;
  drawBar(cell, taken, percent(taken));
}
