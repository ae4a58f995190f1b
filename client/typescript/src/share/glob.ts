// Globs over names: `*` stands for any run of characters, `?` for one, everything else for itself. Takes at most (pattern x name) steps,
// so that no pattern is a trap.

/** Whether the pattern stands for the whole of `name`; the empty one matches everything. */
export function matches(pattern: string, name: string): boolean {
  if (pattern === "") return true;
  const [wanted, given] = [Array.from(pattern), Array.from(name)];
  let [at, reached] = [0, 0];
  // Where to go on after the latest `*` if what follows it does not fit: it then takes one character more.
  let retry: { at: number; reached: number } | undefined;
  while (reached < given.length) {
    if (wanted[at] === "*") {
      at += 1;
      retry = { at, reached: reached + 1 };
    } else if (wanted[at] === "?" || wanted[at] === given[reached]) {
      at += 1;
      reached += 1;
    } else if (retry) {
      ({ at, reached } = retry);
      retry = { at, reached: reached + 1 };
    } else {
      return false;
    }
  }
  return wanted.slice(at).every((rest) => rest === "*");
}
