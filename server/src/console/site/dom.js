// Elements. Text comes in as text nodes and attributes only, so that no name of a budget or a tenant is ever markup.

/**
 * An element with attributes and children. Attributes that are functions listen to that event; those that are false or undefined are left
 * out. Children are elements or text.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Says something else, unless it says that already: what does not change is not read out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A budget's name, which leads to its page. */
export function drawBudget(cell, budget) {
  drawLink(cell, "budget", budget);
}

/** A pool's name, which leads to its page. */
export function drawPool(cell, pool) {
  drawLink(cell, "pool", pool);
}

function drawLink(cell, room, name) {
  if (!cell.firstChild) cell.append(el("a", {}));
  cell.firstChild.setAttribute("href", `#/${room}/${encodeURIComponent(name)}`);
  say(cell.firstChild, name);
}

let ids = 0;

/** A label and the input that it is for. */
export function field(text, input) {
  input.id = `field-${(ids += 1)}`;
  return el("div", { class: "field" }, el("label", { for: input.id }, text), input);
}

/** A part of a page under its heading. */
export function section(title, ...children) {
  const heading = el("h2", { id: `heading-${(ids += 1)}` }, title);
  return el("section", { "aria-labelledby": heading.id }, heading, ...children);
}

/** Opens a dialog, which is gone when it is closed. */
export function dialog(title, ...children) {
  const heading = el("h2", { id: `heading-${(ids += 1)}` }, title);
  const element = el("dialog", { "aria-labelledby": heading.id, close: () => element.remove() }, heading, ...children);
  document.body.append(element);
  element.showModal();
  return element;
}
