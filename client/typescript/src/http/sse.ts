// Cuts a stream of bytes into server-sent events, whatever its line ends and wherever its pieces are cut.

/** Bytes of one event, past which it is passed over: what tells the usage is far smaller. */
const EVENT_BYTES_MAX = 1024 * 1024;

export class SseReader {
  readonly #decoder = new TextDecoder();
  #pending = "";
  #isTooLong = false;

  /** The events that are whole by now. */
  push(bytes: Uint8Array): string[] {
    return this.#cut(this.#decoder.decode(bytes, { stream: true }));
  }

  /** What is left at the end, where the last event has no empty line behind it. */
  end(): string[] {
    const events = this.#cut(this.#decoder.decode());
    if (this.#pending !== "" && !this.#isTooLong) events.push(this.#pending);
    this.#pending = "";
    return events;
  }

  #cut(text: string): string[] {
    const parts = (this.#pending + text).split(/\r\n\r\n|\n\n|\r\r/);
    this.#pending = parts.pop() ?? "";
    // The rest of an event that was passed over goes with it.
    if (this.#isTooLong && parts.length > 0) {
      parts.shift();
      this.#isTooLong = false;
    }
    if (this.#pending.length > EVENT_BYTES_MAX) {
      this.#isTooLong = true;
      // An end that is cut in two is found all the same.
      this.#pending = this.#pending.slice(-3);
    }
    return parts;
  }
}

/** The lines of data, as one text. */
export function dataOf(event: string): string {
  const lines = event.split(/\r\n|\n|\r/).filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(line[5] === " " ? 6 : 5)).join("\n");
}
