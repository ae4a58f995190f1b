// Everything that an application uses.
export type { CallOptions, CallResult } from "./call.js";
export type { Client } from "./client.js";
export { type ConnectOptions, connect } from "./connect.js";
export type { TlsOptions, Token } from "./credentials.js";
export { PermitError, type PermitErrorFacts, type PermitErrorKind } from "./errors.js";
export type { Guard } from "./guard.js";
export { estimate } from "./http/estimate.js";
export type { FetchOptions } from "./http/fetch.js";
export { usageIn } from "./http/usage.js";
export type { Permit, Source } from "./permit.js";
export type { Advice, Outcome, Report } from "./report.js";
export type { AcquireOptions, Priority } from "./request.js";
export type { OutagePolicy } from "./session/driver.js";
export type { Amount, ExactUsage, Usage } from "./usage.js";
export { VERSION } from "./version.js";
