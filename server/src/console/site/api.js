// Questions to the server, each with the token, if one was typed. The token is kept for this tab alone and shown to this server alone.

const TOKEN = "permitd.token";
const PATIENCE_MS = 10_000;

/** The server has refused: `status` by HTTP, `reason` in UPPER_SNAKE_CASE. */
export class Refused extends Error {
  constructor(status, { message, reason }) {
    super(message);
    Object.assign(this, { status, reason });
  }
}

/** No answer came, so nothing is known. */
export class Lost extends Error {}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** Asks for something. */
export function ask(path, parameters) {
  return send(`/api/${path}?${new URLSearchParams(parameters)}`, {});
}

/** Has something done. */
export function tell(path, body) {
  const headers = { "content-type": "application/json" };
  return send(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
}

async function send(path, { headers = {}, ...request }) {
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  let response, answer;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    response = await fetch(path, { ...request, headers, signal, cache: "no-store", redirect: "error" });
    answer = await response.json();
  } catch {
    throw new Lost("the server does not answer");
  }
  if (!response.ok) throw new Refused(response.status, answer.error);
  return answer;
}
