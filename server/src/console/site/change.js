// Other limits for a budget: written, looked at by the server, put in force. What was written is kept whatever happens meanwhile.

import { ask, Refused, tell } from "./api.js";
import { drawDifference } from "./changes.js";
import { dialog, el, field, say } from "./dom.js";
import { counted } from "./words.js";

const HELP = "One limit in each line, as on the command line: requests=60/1m, tokens=100k/1m, in_flight=5. Whatever else is declared stays.";
const CONFLICT = "Somebody else has changed this budget since you opened the form. What you wrote is kept; the preview now shows what it would change of what they declared.";

/** Opens the form. `told` is the budget as it was last told of. */
export function changeLimits(told, done) {
  new Change(told, done);
}

class Change {
  constructor({ budget, etag, waiting, declared }, done) {
    Object.assign(this, { budget, etag, waiting, done });
    this.lines = el("ol", { class: "lines" });
    this.reason = el("input", { maxlength: 1_000 });
    this.complaint = el("p", { role: "alert", class: "complaint" });
    this.preview = el("div", { "aria-live": "polite", class: "preview" });
    this.look = el("button", { class: "main" }, "Preview");
    this.force = el("button", { type: "button", class: "main", disabled: true, click: () => this.putInForce() }, "Put in force");
    for (const { limit } of declared.limits) this.add(limit);
    const form = el(
      "form",
      { submit: (event) => this.previewed(event), input: () => this.edited() },
      this.lines,
      el("button", { type: "button", click: () => this.add("").focus() }, "Add a limit"),
      field("Why, for the audit trail", this.reason),
      this.complaint,
      this.preview,
      el("div", { class: "buttons" }, el("button", { type: "button", click: () => this.form.close() }, "Close"), this.look, this.force),
    );
    this.form = dialog(`Limits of ${budget}`, el("p", { class: "faint" }, HELP), form);
  }

  /** Another line. */
  add(limit) {
    const input = el("input", { value: limit, spellcheck: "false", class: "code", "aria-label": "Limit", size: 50 });
    const remove = () => {
      line.remove();
      this.edited();
      this.look.focus();
    };
    const line = el("li", {}, input, el("button", { type: "button", class: "quiet", click: remove }, "Remove"));
    this.lines.append(line);
    return input;
  }

  /** What was looked at is no longer what is written. */
  edited() {
    this.force.disabled = true;
    this.preview.replaceChildren();
    say(this.complaint, "");
  }

  written(validate_only) {
    const inputs = [...this.lines.querySelectorAll("input")];
    const limits = inputs.map((input) => input.value.trim()).filter((limit) => limit !== "");
    const { budget, etag, reason } = this;
    return { budget, etag, limits, reason: reason.value, validate_only };
  }

  async previewed(event) {
    event.preventDefault();
    await this.asked(async () => {
      const { difference } = await tell("change", this.written(true));
      this.shown(difference);
    });
  }

  shown(difference) {
    const lines = el("div", { class: "code" });
    drawDifference(lines, { difference });
    const effect =
      difference.length === 0
        ? "That is what is declared already."
        : `This would change, and apply at once, to the ${counted(this.waiting, "request", "requests")} waiting as well:`;
    this.preview.replaceChildren(el("p", {}, effect), lines);
    this.force.disabled = difference.length === 0;
    if (!this.force.disabled) this.force.focus();
  }

  async putInForce() {
    await this.asked(async () => {
      await tell("change", this.written(false));
      this.form.close();
      this.done(`${this.budget} is changed`);
    });
  }

  /** Does it, once at a time; what goes wrong is told, and everything that was written stays. */
  async asked(deed) {
    if (this.busy) return;
    this.busy = true;
    say(this.complaint, "");
    try {
      await deed();
    } catch (problem) {
      this.force.disabled = true;
      if (problem instanceof Refused && problem.reason === "ETAG_MISMATCH") await this.caughtUp(problem);
      else say(this.complaint, `${problem.message}. What you wrote is kept.`);
    } finally {
      this.busy = false;
    }
  }

  /** Goes on from what stands now. */
  async caughtUp(problem) {
    try {
      const { state } = await ask("budget", { budget: this.budget });
      this.etag = state.etag;
      const { difference } = await tell("change", this.written(true));
      say(this.complaint, CONFLICT);
      this.shown(difference);
    } catch {
      say(this.complaint, `${problem.message}. What you wrote is kept.`);
    }
  }
}
