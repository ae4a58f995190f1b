// To pause and to resume, each after a question.

import { tell } from "./api.js";
import { dialog, el, field, say } from "./dom.js";
import { counted } from "./words.js";

/** What can be done, by what it is called. */
const DEEDS = {
  pause: {
    title: (budget) => `Pause ${budget}?`,
    effect: (waiting) => `Nothing is granted then. ${waiting} and go on waiting; their deadlines run.`,
    verb: "Pause",
    done: "is paused",
  },
  resume: {
    title: (budget) => `Resume ${budget}?`,
    effect: (waiting) => `That ends a pause and an exhausted quota. ${waiting}.`,
    verb: "Resume",
    done: "is resumed",
  },
};

/** Asks whether that is meant, and does it. */
export function steer(deed, { budget, waiting }, done) {
  const { title, effect, verb, done: result } = DEEDS[deed];
  const reason = el("input", { maxlength: 1_000 });
  const complaint = el("p", { role: "alert", class: "complaint" });
  const go = el("button", { class: "main" }, verb);
  const opened = dialog(
    title(budget),
    el("p", {}, effect(`${counted(waiting, "request waits", "requests wait")}`)),
    el(
      "form",
      {
        submit: async (event) => {
          event.preventDefault();
          go.disabled = true;
          try {
            await tell(deed, deed === "pause" ? { budget, reason: reason.value } : { budget });
            opened.close();
            done(`${budget} ${result}`);
          } catch (problem) {
            say(complaint, `${problem.message}. Try again, or leave it as it is.`);
          } finally {
            go.disabled = false;
          }
        },
      },
      ...(deed === "pause" ? [field("Why, for the audit trail", reason)] : []),
      complaint,
      el("div", { class: "buttons" }, el("button", { type: "button", click: () => opened.close() }, "Leave it as it is"), go),
    ),
  );
}
