// JSON whose integers keep all their digits: those that a number can't hold come as bigint.

/** Fewer digits than this always fit a number. */
const LONG = /\d{16}/;
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** Stands before the digits of an integer while it passes through the parser; begins as no text of JSON can without an escape. */
const MARK = "\u0001integer:";

/** Absent for what is no JSON. */
export function parsed(text: string): unknown {
  try {
    if (!LONG.test(text)) return JSON.parse(text) as unknown;
    const marked = text.replace(TOKENS, (token) => (/^-?\d{16,}$/.test(token) ? JSON.stringify(MARK + token) : token));
    return JSON.parse(marked, (_, value: unknown) =>
      typeof value === "string" && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value,
    );
  } catch {
    return undefined;
  }
}
