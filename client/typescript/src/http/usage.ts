// What an answer says was used, in any provider's words: of a whole answer, or of the events of a streamed one.
import type { ExactUsage } from "../usage.js";
import { fieldOf, whole } from "./estimate.js";
import { parsed } from "./json.js";
import { dataOf, SseReader } from "./sse.js";

/** What was told so far; later words win. */
interface Told {
  input?: bigint;
  output?: bigint;
  cached?: bigint;
  /** Of the input, beside what is told as input. */
  created?: bigint;
  read?: bigint;
}

/** Collects what the answer to one request says was used. */
export class UsageReader {
  readonly #told: Told = {};

  /** Takes one JSON value: the answer, or one event's data. */
  add(value: unknown): void {
    // Anthropic tells in the message that begins a stream, OpenAI's Responses in the response that ends it.
    const places = [value, fieldOf(value, "message"), fieldOf(value, "response")];
    for (const place of places) {
      this.#addUsage(fieldOf(place, "usage"));
      this.#addGemini(fieldOf(place, "usageMetadata"));
    }
  }

  /** Absent where nothing was told. */
  get usage(): ExactUsage | undefined {
    const { input, output, created, read, cached } = this.#told;
    const inputTokens = input === undefined ? undefined : input + (created ?? 0n) + (read ?? 0n);
    if (inputTokens === undefined && output === undefined) return undefined;
    const cachedInput = read ?? cached;
    return {
      ...(inputTokens !== undefined && { inputTokens }),
      ...(output !== undefined && { outputTokens: output }),
      ...(cachedInput !== undefined && cachedInput > 0n && { cachedInputTokens: cachedInput }),
      other: {},
    };
  }

  /** As OpenAI (chat and responses) and Anthropic have it. */
  #addUsage(usage: unknown): void {
    const field = (name: string) => whole(fieldOf(usage, name));
    const prompt = field("prompt_tokens");
    // An embedding has no output, which is known and not open.
    const output = field("output_tokens") ?? field("completion_tokens") ?? (prompt === undefined ? undefined : 0n);
    const details = fieldOf(usage, "input_tokens_details") ?? fieldOf(usage, "prompt_tokens_details");
    this.#tell({
      input: field("input_tokens") ?? prompt,
      output,
      cached: whole(fieldOf(details, "cached_tokens")),
      // Anthropic does not count these two among its input_tokens.
      created: field("cache_creation_input_tokens"),
      read: field("cache_read_input_tokens"),
    });
  }

  #addGemini(usage: unknown): void {
    const field = (name: string) => whole(fieldOf(usage, name));
    const candidates = field("candidatesTokenCount");
    const output = candidates === undefined ? undefined : candidates + (field("thoughtsTokenCount") ?? 0n);
    this.#tell({ input: field("promptTokenCount"), output, cached: field("cachedContentTokenCount") });
  }

  #tell(told: { [name in keyof Told]: bigint | undefined }): void {
    for (const [name, amount] of Object.entries(told)) {
      if (amount !== undefined) this.#told[name as keyof Told] = amount;
    }
  }
}

/** Reads a whole answer: JSON, or the events of a stream. Absent where it tells nothing. */
export function usageIn(body: string): ExactUsage | undefined {
  const reader = new UsageReader();
  const json = parsed(body);
  if (json !== undefined) {
    // Gemini streams a list where it is not asked for events.
    for (const value of Array.isArray(json) ? json : [json]) reader.add(value);
    return reader.usage;
  }
  const events = new SseReader();
  for (const event of [...events.push(Buffer.from(body)), ...events.end()]) {
    const value = parsed(dataOf(event));
    if (value !== undefined) reader.add(value);
  }
  return reader.usage;
}
