// Charts of the last minutes, of values that come once a second.

const SPACE = "http://www.w3.org/2000/svg";

/** The latest values, at most `most` of them. */
export class History {
  constructor(most) {
    this.most = most;
    this.values = [];
  }

  push(value) {
    this.values.push(value);
    if (this.values.length > this.most) this.values.shift();
  }
}

/** Values for which there is room at least. */
const LEAST = 60;

/** Lines over each other, the newest values at the right, as wide as there are values. `lines` are their classes; an `area` is filled. */
export class Chart {
  constructor({ width, height, lines }) {
    Object.assign(this, { width, height });
    this.element = make("svg", { viewBox: `0 0 ${width} ${height}`, height, preserveAspectRatio: "none", role: "img", class: "chart" });
    this.lines = lines.map((kind) => make(kind.startsWith("area") ? "polygon" : "polyline", { class: kind }));
    this.element.append(...this.lines);
  }

  /** Draws as many histories as there are lines, from nothing up to `top`. */
  draw(histories, top, label) {
    this.element.setAttribute("aria-label", label);
    histories.forEach(({ values }, at) => {
      const room = Math.max(values.length, LEAST);
      const place = (value, index) => {
        const x = this.width - ((values.length - 1 - index) * this.width) / (room - 1);
        const part = Math.min(Math.max(value / (top || 1), 0), 1);
        return `${x.toFixed(1)},${(1 + (this.height - 2) * (1 - part)).toFixed(1)}`;
      };
      const points = values.map(place);
      if (this.lines[at].tagName === "polygon" && points.length > 0) {
        const first = points[0].split(",")[0];
        points.push(`${this.width},${this.height}`, `${first},${this.height}`);
      }
      this.lines[at].setAttribute("points", points.join(" "));
    });
  }
}

/** A bar that tells how much is taken, in thousandths. */
export function drawBar(cell, permille, text) {
  if (!cell.firstChild) {
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.append(document.createElement("span"));
    cell.append(bar, document.createElement("span"));
  }
  const [bar, label] = cell.children;
  bar.firstChild.style.width = `${Math.min(permille, 1_000) / 10}%`;
  bar.className = `bar ${permille >= 1_000 ? "full" : permille >= 900 ? "high" : ""}`;
  if (label.textContent !== text) label.textContent = text;
}

function make(tag, attributes) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
