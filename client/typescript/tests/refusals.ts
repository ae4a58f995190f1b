// What is refused, and how.
import assert from "node:assert/strict";

import { PermitError } from "../src/index.js";

/** The error of something that must not succeed. */
export async function refusalOf(asked: Promise<unknown>): Promise<PermitError> {
  const error = await asked.then(
    () => assert.fail("it succeeded"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof PermitError, String(error));
  return error;
}
