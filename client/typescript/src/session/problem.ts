// Why there is no session (any more), in words.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { type StatusObject, status } from "@grpc/grpc-js";

import { codeName } from "../errors.js";

export interface Problem {
  /** For people. */
  readonly text: string;
  /** Trying the same endpoint again will not help by itself. */
  readonly definitive: boolean;
  /** The server asks to be left alone. */
  readonly elsewhere: boolean;
  /** A newer stream has the session's id. */
  readonly takenOver: boolean;
}

export function passing(text: string): Problem {
  return { text, definitive: false, elsewhere: false, takenOver: false };
}

export function definitive(text: string): Problem {
  return { ...passing(text), definitive: true };
}

/** Reads how a stream ended. `wasUp`: after it was welcomed, where a token that expired may have been renewed since. */
export function problemOf(end: StatusObject, wasUp: boolean): Problem {
  const { details } = end;
  const code: status = end.code;
  switch (code) {
    case status.OK:
      return passing(wasUp ? "ended the session" : "ended the session at once");
    case status.UNAVAILABLE:
      return { ...passing(`is unavailable (${firstLine(details)})`), elsewhere: true };
    case status.UNIMPLEMENTED:
      return definitive("speaks gRPC but has no permit service: it is not a permitd server");
    case status.UNAUTHENTICATED:
    case status.PERMISSION_DENIED:
      return {
        ...passing(`does not let this client in: ${details}`),
        definitive: !(wasUp && code === status.UNAUTHENTICATED),
      };
    case status.INVALID_ARGUMENT:
    case status.FAILED_PRECONDITION:
    case status.OUT_OF_RANGE:
      return definitive(`refused the session: ${details}`);
    default:
      return {
        ...passing(`broke the session (${codeName(code)}: ${firstLine(details)})`),
        takenOver: code === status.ABORTED && reasonOf(end) === "SESSION_TAKEN_OVER",
      };
  }
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}

/** The ErrorInfo's reason in `google.rpc.Status`, if there is one: details = 3, Any.value = 2, ErrorInfo.reason = 1. */
export function reasonOf(end: StatusObject): string | undefined {
  const [bytes] = end.metadata.get("grpc-status-details-bin");
  if (!(bytes instanceof Uint8Array)) return undefined;
  try {
    for (const any of fieldsOf(bytes, 3)) {
      const [type] = fieldsOf(any, 1);
      const [value] = fieldsOf(any, 2);
      if (type && value && new TextDecoder().decode(type).endsWith("google.rpc.ErrorInfo")) {
        const [reason] = fieldsOf(value, 1);
        return reason && new TextDecoder().decode(reason);
      }
    }
  } catch {
    // Bytes that do not decode say nothing.
  }
  return undefined;
}

/** The contents of every length-delimited field with this number. */
function fieldsOf(message: Uint8Array, number: number): Uint8Array[] {
  const reader = new BinaryReader(message);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === number && wireType === WireType.LengthDelimited) found.push(reader.bytes());
    else reader.skip(wireType, field);
  }
  return found;
}
