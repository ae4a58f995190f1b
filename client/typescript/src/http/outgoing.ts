// A request as it was handed to `fetch`: what it asks for, and how to make it again.

export type FetchInput = Parameters<typeof globalThis.fetch>[0];
export type FetchInit = NonNullable<Parameters<typeof globalThis.fetch>[1]>;

export interface Outgoing {
  readonly url: string;
  /** What is sent, where it is text that can be read without using it up. */
  readonly text: string | undefined;
  readonly signal: AbortSignal | undefined;
  /** Whether it can be made more than once. */
  readonly isRepeatable: boolean;
  /** Makes it. */
  send(fetch: typeof globalThis.fetch): Promise<Response>;
}

export async function outgoing(input: FetchInput, init: FetchInit | undefined): Promise<Outgoing> {
  const request = input instanceof Request ? input : undefined;
  const url = input instanceof Request ? input.url : input.toString();
  const signal = init?.signal ?? request?.signal ?? undefined;
  if (request && init?.body === undefined) {
    const text = isJson(request.headers) ? await request.clone().text() : undefined;
    // The original is kept unread for the next time.
    const send: Outgoing["send"] = (fetch) => fetch(request.clone(), init);
    return { url, text, signal, isRepeatable: true, send };
  }
  const body = init?.body ?? undefined;
  const send: Outgoing["send"] = (fetch) => fetch(input, init);
  if (body === undefined) return { url, text: undefined, signal, isRepeatable: true, send };
  return { url, text: textOf(body), signal, isRepeatable: isWhole(body), send };
}

function textOf(body: NonNullable<FetchInit["body"]>): string | undefined {
  if (typeof body === "string") return body;
  if (body instanceof ArrayBuffer) return Buffer.from(body).toString();
  if (ArrayBuffer.isView(body)) return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString();
  return undefined;
}

/** What is used up by being sent is a stream, or something like one. */
function isWhole(body: NonNullable<FetchInit["body"]>): boolean {
  const whole = [ArrayBuffer, Blob, FormData, URLSearchParams].some((kind) => body instanceof kind);
  return typeof body === "string" || ArrayBuffer.isView(body) || whole;
}

function isJson(headers: Headers): boolean {
  return headers.get("content-type")?.includes("json") === true;
}
