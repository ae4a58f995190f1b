// What a request is expected to use, as far as its body tells: guessed well enough to queue for, and settled by what the answer says was
// used.
import { least, most } from "../exact.js";
import type { ExactUsage } from "../usage.js";
import { parsed } from "./json.js";

/**
 * English has four characters to a token, and scripts of three bytes a character come near to one token each: in UTF-8, both are about
 * four bytes. The providers' own rule of thumb.
 */
const BYTES_PER_TOKEN = 4;
/** What an image, a sound or a document counts, whatever its bytes: about the most that providers charge for one image. */
const ATTACHMENT_TOKENS = 1_600;
/** Where providers look for the bound of the output; the first that is there counts. */
const OUTPUT_BOUNDS = ["max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample"];
/** Names beside a `data` that is no text. */
const MEDIA = ["format", "media_type", "mimeType", "mime_type"];
const AMOUNT_MAX = 2n ** 64n - 1n;
/** Deeper than any request; what is below counts nothing. */
const DEPTH_MAX = 128;

/** Reads the text of a request's body: JSON in any provider's shape. Of anything else, nothing is known. */
export function estimate(text: string): ExactUsage | undefined {
  const body = parsed(text);
  return body === undefined ? undefined : estimateOf(body);
}

/** The same, of JSON that was read before. */
export function estimateOf(body: unknown): ExactUsage {
  const content = { textBytes: 0, tokens: 0, attachments: 0 };
  add(content, body, DEPTH_MAX);
  const counted = Math.floor(content.textBytes / BYTES_PER_TOKEN) + content.tokens;
  const inputTokens = BigInt(Math.max(1, counted + content.attachments * ATTACHMENT_TOKENS));
  const bound = outputBound(body);
  return { inputTokens, ...(bound !== undefined && { maxOutputTokens: bound }), other: {} };
}

/** The model that a body names; empty if it names none. */
export function modelIn(body: unknown): string {
  const named = fieldOf(body, "model");
  return typeof named === "string" ? named : "";
}

interface Content {
  textBytes: number;
  /** Input that comes as tokens already: numbers in arrays. */
  tokens: number;
  attachments: number;
}

function add(content: Content, value: unknown, depth: number): void {
  if (typeof value === "string") {
    if (value.startsWith("data:")) content.attachments += 1;
    else content.textBytes += Buffer.byteLength(value);
  } else if (depth === 0 || typeof value !== "object" || value === null) {
    return;
  } else if (Array.isArray(value)) {
    for (const item of value) {
      if (typeof item === "number" || typeof item === "bigint") content.tokens += 1;
      else add(content, item, depth - 1);
    }
  } else {
    const isMedia = MEDIA.some((name) => Object.hasOwn(value, name));
    for (const [name, field] of Object.entries(value)) {
      if (isMedia && name === "data" && typeof field === "string") content.attachments += 1;
      else add(content, field, depth - 1);
    }
  }
}

function outputBound(body: unknown): bigint | undefined {
  const found = [
    ...OUTPUT_BOUNDS.map((name) => fieldOf(body, name)),
    fieldOf(fieldOf(body, "generationConfig"), "maxOutputTokens"),
  ];
  const bound = found.map(whole).find((amount) => amount !== undefined);
  return bound === undefined ? undefined : least(bound * choices(body), AMOUNT_MAX);
}

/** How many answers are asked for, each of which can be as long as the bound. */
function choices(body: unknown): bigint {
  const asked = ["n", "best_of"].map((name) => whole(fieldOf(body, name)) ?? 1n);
  return asked.reduce(most, 1n);
}

export function fieldOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

/** A whole amount, at most 2^64 - 1, as JSON can hold it; absent for anything else. */
export function whole(value: unknown): bigint | undefined {
  const amount = typeof value === "number" && Number.isInteger(value) ? BigInt(value) : value;
  return typeof amount === "bigint" && amount >= 0n ? least(amount, AMOUNT_MAX) : undefined;
}
