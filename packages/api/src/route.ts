import type { z } from "zod";

/** What a route does to its resource; `authorize()` decides by the pair. */
export const actions = ["list", "read", "create", "update", "delete", "use"] as const;
export type Action = (typeof actions)[number];

/** What a route is about. `session` is who sends the request himself; `system` is the installation, with the machines it runs on. */
export const resources = [
  "instance",
  "image",
  "template",
  "pool",
  "archive",
  "snapshot",
  "operation",
  "event",
  "project",
  "token",
  "user",
  "session",
  "node",
  "system",
] as const;
export type Resource = (typeof resources)[number];

/** How a route answers: JSON of `response`, a stream of bytes or events, a file that can be asked for in parts, nothing but where an upload goes on, or a WebSocket. */
export type RouteKind = "json" | "text" | "tar" | "file" | "upload" | "events" | "websocket";

/** One request the API answers; server, client, OpenAPI document and reference page are all made from it. */
export interface Route {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly summary: string;
  readonly resource: Resource;
  readonly action: Action;
  readonly kind: RouteKind;
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  /** Success status and body (of kind `events`: each message); every route can also answer with a Problem. */
  readonly status: number;
  readonly response?: z.ZodType;
  /** Whether it is answered to nobody in particular. */
  readonly public?: true;
  /** Whether it takes an Idempotency-Key. */
  readonly idempotent?: true;
  /** Whether it takes If-Match with the ETag of what it changes. */
  readonly precondition?: true;
  /** What a reader must know beyond the summary. */
  readonly description?: string;
}

/** Keeps a route's exact type, so that the client's arguments and answers are derived from it. */
export function route<const R extends Route>(definition: R): R {
  return definition;
}
