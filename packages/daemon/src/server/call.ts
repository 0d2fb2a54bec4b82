import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import {
  type Action,
  BerthError,
  type Operation,
  type Resource,
  type Route,
  type RouteName,
  type routes,
} from "@berth/api";
import type { WebSocket } from "ws";
import type { z } from "zod";
import type { Caller } from "../identity/authorize.ts";
import { canonicalJson } from "./json-body.ts";
import type { ChangeOptions, FileAnswer, Scope, Services } from "./services.ts";
import type { SessionCookie } from "./session-cookie.ts";

type Routes = typeof routes;
type PartOf<N extends RouteName, Part extends "params" | "query" | "body"> = Routes[N] extends {
  readonly [P in Part]: infer S extends z.ZodType;
}
  ? z.output<S>
  : undefined;

/** One request, checked: what its handler is given. */
export interface Call<N extends RouteName = RouteName> {
  readonly services: Services;
  readonly scope: Scope;
  readonly params: PartOf<N, "params">;
  readonly query: PartOf<N, "query">;
  readonly body: N extends "writeFiles" | "writeArchive" ? Readable : PartOf<N, "body">;
  readonly headers: IncomingHttpHeaders;
  /** Aborted when the client leaves, with `shutting_down` when the server closes, and with the refusal once the caller may not have the answer any more. */
  readonly signal: AbortSignal;
  /** Where the request comes from: the address of its connection. */
  readonly address: string;
  readonly cookie: SessionCookie;
  /** Asks `authorize()` for what the route alone does not tell. */
  authorize(action: Action, resource: Resource, project: string): void;
  /** Sets a header of the answer. */
  header(name: string, value: string): void;
}

/** A stream of messages. `first` is the position before the first message, so that a client which never got one can resume too. */
export interface MessageStream<T> {
  readonly messages: AsyncIterable<T>;
  readonly first?: string;
  idOf?(message: T): string;
  /** What tells a message from the usual ones, which have none. */
  typeOf?(message: T): string | undefined;
}

/** Takes over an accepted WebSocket until it closes. */
export type Attach = (socket: WebSocket, signal: AbortSignal) => Promise<void>;

/** A list may come from something that cannot be changed. */
type Answer<T> = T extends { items: (infer Item)[] } ? Omit<T, "items"> & { readonly items: readonly Item[] } : T;

type ResultOf<R extends Route> = R extends { readonly kind: "json"; readonly response: infer S extends z.ZodType }
  ? Answer<z.input<S>>
  : R extends { readonly kind: "events"; readonly response: infer S extends z.ZodType }
    ? MessageStream<z.input<S>>
    : R extends { readonly kind: "websocket" }
      ? Attach
      : R extends { readonly kind: "file" }
        ? FileAnswer
        : R extends { readonly status: 204 }
          ? undefined
          : Readable;

/** What answers one route. */
export type Handler<N extends RouteName> = (call: Call<N>) => Promise<ResultOf<Routes[N]>>;

/** The handlers of some routes, by their names. */
export type Handlers<N extends RouteName = RouteName> = { readonly [Name in N]: Handler<Name> };

/** The project a request is for: the one in its path, else the one it names in the query, else its caller's. */
export function projectOf(caller: Caller, params: unknown, query: unknown): string {
  return projectIn(params) ?? projectIn(query) ?? caller.project ?? "default";
}

/** The project that params or a query name. */
export function projectIn(part: unknown): string | undefined {
  return (part as { project?: string } | undefined)?.project;
}

/** How the change is to be made, by the request's headers and query. */
export function changeOptions(
  name: RouteName,
  call: Pick<Call, "scope" | "headers"> & {
    readonly params?: unknown;
    readonly query?: unknown;
    readonly body?: unknown;
  },
): ChangeOptions {
  const query = { ...(call.query as { wait?: number; queue?: boolean } | undefined) };
  delete query.wait;
  const key = singleHeader(call.headers, "idempotency-key");
  if (key !== undefined && !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw invalidHeader("idempotency-key", "must be 1 to 255 visible ASCII characters");
  }
  const asked = canonicalJson([name, call.scope.project, call.params, query, call.body]);
  return {
    idempotency: key === undefined ? null : { key, requestHash: createHash("sha256").update(asked).digest("hex") },
    ifMatch: readIfMatch(singleHeader(call.headers, "if-match")),
    queue: query.queue ?? false,
  };
}

/** The generations an If-Match header allows (RFC 9110, section 13.1.1); null for all. Weak and foreign tags match nothing. */
function readIfMatch(header: string | undefined): readonly number[] | null {
  if (header === undefined || header.trim() === "*") return null;
  const tag = String.raw`(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"`;
  if (!new RegExp(`^\\s*${tag}(\\s*,\\s*${tag})*\\s*$`).test(header)) {
    throw invalidHeader("if-match", 'must be an ETag such as "3"');
  }
  return [...header.matchAll(/(?<=^|[\s,])"(\d{1,15})"/g)].map((match) => Number(match[1]));
}

/** The ETag of an object: its generation. */
export function etagOf(object: { readonly generation: number }): string {
  return `"${object.generation}"`;
}

export function invalidHeader(name: string, message: string): BerthError {
  const path = `headers.${name}`;
  return new BerthError("invalid_request", `${path}: ${message}`, { errors: [{ path, message }] });
}

function singleHeader(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value.join(", ") : value;
}

/** The operation once it has ended, or as it is when the time is up or nobody waits any more. */
export async function waitFor(
  services: Services,
  id: string,
  seconds: number,
  signal: AbortSignal,
): Promise<Operation> {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), seconds * 1000);
  let last: Operation | undefined;
  try {
    for await (const operation of services.operations.watch(id, AbortSignal.any([deadline.signal, signal])))
      last = operation;
  } catch (error) {
    if (!deadline.signal.aborted && !signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
  }
  return last ?? (await services.operations.get(id));
}

/**
 * Answers a change: at once, or with `?wait=` when its operation has ended or the time is up, with everything as it is then. The status is 202 either way;
 * how far the work got is the operation's to say. What is gone by then is answered as it was last seen.
 */
export async function answerChange<C extends { readonly operation: Operation }>(
  call: Pick<Call, "services" | "signal" | "header"> & { readonly query: { readonly wait?: number | undefined } },
  change: C,
  refresh: () => Promise<Omit<C, "operation">>,
): Promise<C> {
  const { id } = change.operation;
  call.header("location", `/api/v1/operations/${id}`);
  if (call.query.wait === undefined || call.query.wait === 0) return change;
  const operation = await waitFor(call.services, id, call.query.wait, call.signal);
  try {
    return { ...change, ...(await refresh()), operation };
  } catch (error) {
    if (error instanceof BerthError && error.code === "not_found") return { ...change, operation };
    throw error;
  }
}
