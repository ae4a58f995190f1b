// Which page is shown, and when it is asked for anew: once a second, one question at a time, and not while nobody looks.

import { Lost, Refused, token } from "./api.js";
import { BudgetPage } from "./budget.js";
import { ChangesPage } from "./changes.js";
import { el, field, dialog, say } from "./dom.js";
import { OverviewPage } from "./overview.js";
import { PoolPage } from "./pools.js";
import { clock } from "./words.js";

const INTERVAL_MS = 1_000;

const at = (id) => document.getElementById(id);
let page = null;
let wake = () => {};
/** Whether something is to be asked that the answer under way can't know of. */
let due = false;
let heard = null;
/** The dialog that asks for a token. */
let asking = null;

/** The page that the address names. Others than ours (`#main`) are places on a page. */
function open() {
  const path = location.hash || "#/";
  if (!path.startsWith("#/")) return;
  const [room, name] = path.slice(2).split(/\/(.*)/s);
  if (room === "budget" && name) page = new BudgetPage(decoded(name), refresh);
  else if (room === "pool" && name) page = new PoolPage(decoded(name));
  else if (room === "changes") page = new ChangesPage();
  else page = new OverviewPage(refresh, room.startsWith("?") ? room.slice(1) : "");
  mark("to-budgets", !(page instanceof ChangesPage));
  mark("to-changes", page instanceof ChangesPage);
  document.title = `${page.title} · permitd`;
  at("main").replaceChildren(page.element);
  refresh();
}

/** What makes no sense as an address is a name as it stands. */
function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function mark(link, current) {
  if (current) at(link).setAttribute("aria-current", "page");
  else at(link).removeAttribute("aria-current");
}

/** Asks at once, not when the interval is over; says what was done, if anything was. */
export function refresh(done) {
  if (done) say(at("said"), done);
  due = true;
  wake();
}

async function look() {
  if (asking?.open) return;
  const looked = page;
  try {
    const told = await looked.ask();
    if (looked !== page) return;
    looked.show(told);
    connected(told);
  } catch (problem) {
    if (looked === page) failed(problem);
  }
}

function connected({ caller }) {
  heard = new Date();
  at("lost").hidden = true;
  document.body.classList.remove("stale");
  say(at("live"), "live");
  if (caller) say(at("caller"), caller.name);
  at("forget").hidden = !token.get();
}

/** What was shown stays, and is said to be old. */
function failed(problem) {
  document.body.classList.add("stale");
  if (problem instanceof Lost) {
    say(at("live"), "not connected");
    complain(`${problem.message}${heard ? `; this is as of ${clock(heard)}` : ""}. It is asked again every second.`);
  } else if (problem instanceof Refused) {
    say(at("live"), "refused");
    complain(problem.message);
    if (problem.status === 401) signIn(problem.message);
  } else {
    complain(`this page has a fault, and is asked for again every second: ${problem.message}`);
    console.error(problem);
  }
}

function complain(text) {
  say(at("lost"), text);
  at("lost").hidden = false;
}

/** Asks for a token, once at a time; nothing else is asked meanwhile. */
function signIn(why) {
  if (asking?.open) return;
  const input = el("input", { type: "password", autocomplete: "off", required: true, size: 44 });
  const take = (event) => {
    event.preventDefault();
    token.set(input.value.trim());
    asking.close();
    refresh();
  };
  const buttons = el("div", { class: "buttons" }, el("button", { class: "main" }, "Show it"));
  const note = "It is kept for this tab alone. To look takes the role observe, to steer admin.";
  const form = el("form", { submit: take }, field("Token", input), el("p", { class: "faint" }, note), buttons);
  asking = dialog("Who are you?", el("p", {}, why), form);
}

function forget() {
  token.forget();
  location.reload();
}

function pause(milliseconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

function seen() {
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

async function live() {
  for (;;) {
    due = false;
    await look();
    if (!due) await pause(INTERVAL_MS);
    while (document.hidden) await seen();
  }
}

at("forget").addEventListener("click", forget);
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});
addEventListener("hashchange", () => {
  const left = page;
  open();
  if (page === left) return;
  // Whoever goes by keys, or listens, is on the new page, at its beginning.
  const heading = page.element.querySelector("h1");
  heading.tabIndex = -1;
  heading.focus();
});
open();
live();
