// How a server proves to this client who it is, and this client to the server. What stands in files is read anew for every connection, so
// that certificates and tokens can be renewed under a running client.
import { readFileSync } from "node:fs";
import { type ChannelCredentials, credentials, Metadata } from "@grpc/grpc-js";

import { invalid, PermitError } from "./errors.js";

/** Whom to trust, and what to show. Without more, the system's authorities are trusted and nothing is shown. */
export interface TlsOptions {
  /** Trusts these authorities and no others: PEM, or the path of a file with it. */
  readonly ca?: string | undefined;
  /** Shows this certificate, with those between it and its authority behind it: PEM, or the path of a file with it. */
  readonly cert?: string | undefined;
  /** The certificate's key: PEM, or the path of a file with it. */
  readonly key?: string | undefined;
  /** The name that the server's certificate has to have; without it, the host of the endpoint. */
  readonly serverName?: string | undefined;
}

/** A token; or where it comes from, asked for every connection. */
export type Token = string | { readonly file: string } | (() => string | Promise<string>);

/** Where a server is. */
export interface Endpoint {
  /** As the user wrote it, for messages. */
  readonly text: string;
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
}

/** What is shown to servers and wanted of them. */
export interface Credentials {
  readonly tls: TlsOptions | undefined;
  readonly token: Token | undefined;
  /** Whether the token may go to other machines in the clear. */
  readonly insecure: boolean;
}

const PORT_DEFAULT = 7110;

/** Reads `http://HOST:PORT`, `https://HOST:PORT` or `HOST:PORT`. */
export function parseEndpoint(text: string): Endpoint {
  const problem = () => invalid("endpoints", `${JSON.stringify(text)} is no address; write http://HOST:PORT`);
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `http://${text}`);
  } catch {
    throw problem();
  }
  const isTls = url.protocol === "https:";
  if ((!isTls && url.protocol !== "http:") || url.hostname === "") throw problem();
  // A URL leaves out the port that its scheme implies.
  const implied = text.match(/:(80|443)(?:\/|$)/)?.[1];
  const port = Number(url.port || implied || PORT_DEFAULT);
  return { text, host: url.hostname, port, isTls };
}

/** Throws what is wrong with the credentials for this endpoint, as far as that can be known before connecting. */
export function checkCredentials(endpoint: Endpoint, { tls, token, insecure }: Credentials): void {
  if (typeof token !== "function") tokenMetadata(token);
  if (endpoint.isTls) {
    secure(endpoint, tls);
    return;
  }
  if (tls) throw invalid("endpoints", `${endpoint.text} is served in the clear; write https:// for TLS`);
  if (token !== undefined && !insecure && !isLoopback(endpoint.host)) {
    const problem = `would be sent in the clear to ${endpoint.text}; use https://, or say that it may (insecure)`;
    throw invalid("token", problem);
  }
}

export function secure(endpoint: Endpoint, tls: TlsOptions | undefined): ChannelCredentials {
  if (!endpoint.isTls) return credentials.createInsecure();
  const ca = pem("tls.ca", tls?.ca);
  if ((tls?.cert === undefined) !== (tls?.key === undefined)) {
    throw invalid("tls", "a certificate and its key go together; give both cert and key");
  }
  const cert = pem("tls.cert", tls?.cert);
  const key = pem("tls.key", tls?.key);
  try {
    return credentials.createSsl(ca ?? null, key ?? null, cert ?? null);
  } catch (error) {
    throw invalid("tls", `can't be used: ${(error as Error).message}`);
  }
}

/** What goes along with the session's call. */
export async function sign(token: Token | undefined): Promise<Metadata> {
  if (typeof token !== "function") return tokenMetadata(token);
  try {
    return tokenMetadata(await token());
  } catch (error) {
    throw error instanceof PermitError ? error : invalid("token", `can't be had: ${(error as Error).message}`);
  }
}

function tokenMetadata(token: string | { readonly file: string } | undefined): Metadata {
  const metadata = new Metadata();
  if (token === undefined) return metadata;
  const text = (typeof token === "string" ? token : read("token", token.file).toString()).trim();
  if (text === "" || !/^[\x21-\x7e]+$/.test(text)) {
    throw invalid("token", "is empty, or has characters that no token has");
  }
  metadata.set("authorization", `Bearer ${text}`);
  return metadata;
}

function pem(field: string, source: string | undefined): Buffer | undefined {
  if (source === undefined) return undefined;
  const text = source.includes("-----BEGIN ") ? Buffer.from(source) : read(field, source);
  if (!text.includes("-----BEGIN "))
    throw invalid(field, "has nothing in PEM; give PEM, or the path of a file with it");
  return text;
}

function read(field: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw invalid(field, `can't read ${path}: ${(error as Error).message}`);
  }
}

/** Whether a host can only be this machine. */
function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
