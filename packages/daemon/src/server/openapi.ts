import {
  ClientControl,
  type ErrorCode,
  ExecRequest,
  errorCatalogue,
  execFrames,
  Problem,
  type Route,
  ServerControl,
} from "@berth/api";
import { z } from "zod";
import { mergePatchType, streamTypeOf, takesMergePatch } from "./validate.ts";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonSchema = { [key: string]: Json };

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly description?: string;
  readonly schema: JsonSchema;
  readonly style?: "form";
  readonly explode?: boolean;
}

export interface MediaContent {
  readonly [type: string]: { readonly schema: JsonSchema };
}

export interface OpenApiOperation {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tags: readonly string[];
  readonly security?: readonly Record<string, readonly string[]>[];
  readonly parameters: readonly Parameter[];
  readonly requestBody?: { readonly required: boolean; readonly content: MediaContent };
  readonly responses: Readonly<
    Record<string, { readonly description: string; readonly content?: MediaContent; readonly headers?: JsonSchema }>
  >;
}

/** The part of an OpenAPI 3.1 document that we write. */
export interface OpenApiDocument {
  readonly openapi: "3.1.0";
  readonly info: { readonly title: string; readonly version: string; readonly description: string };
  readonly servers: readonly { readonly url: string }[];
  readonly security: readonly Record<string, readonly string[]>[];
  readonly tags: readonly { readonly name: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, OpenApiOperation>>>>;
  readonly components: {
    readonly securitySchemes: JsonSchema;
    readonly schemas: Readonly<Record<string, JsonSchema>>;
  };
}

/** Collects schemas that have a name, so that each stands in the document once. */
class Components {
  readonly schemas: Record<string, JsonSchema> = {};

  /** The JSON Schema of a Zod schema as it is sent (`input`) or received by clients (`output`); named parts become references. */
  of(schema: z.ZodType, io: "input" | "output"): JsonSchema {
    const { $defs = {}, $schema: _, ...root } = toJsonSchema(schema, io);
    for (const [name, definition] of Object.entries($defs as Record<string, JsonSchema>)) {
      if (name.startsWith("__")) continue;
      const moved = moveReferences(definition) as JsonSchema;
      const known = this.schemas[name];
      if (known && JSON.stringify(known) !== JSON.stringify(moved)) {
        throw new Error(`Two schemas are called ${name}, or one is different when sent and when received.`);
      }
      this.schemas[name] = moved;
    }
    return moveReferences(root) as JsonSchema;
  }
}

function toJsonSchema(schema: z.ZodType, io: "input" | "output"): JsonSchema {
  return z.toJSONSchema(schema, {
    io,
    target: "draft-2020-12",
    override: ({ jsonSchema }) => {
      // The patterns of times and addresses are long, and of addresses stricter than what is checked; the format says it all.
      if (["date-time", "ipv4", "ipv6"].includes(String(jsonSchema.format))) delete jsonSchema.pattern;
      // Any integer that JSON carries exactly; saying so at each number only hides the limits that matter.
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  }) as JsonSchema;
}

/** Points references to where components are. The only recursive schema without a name is z.json(), which says in many words: anything. */
function moveReferences(value: Json): Json {
  if (Array.isArray(value)) return value.map(moveReferences);
  if (typeof value !== "object" || value === null) return value;
  const { $ref, ...rest } = Object.fromEntries(
    Object.entries(value).map(([key, part]) => [key, key === "$ref" ? part : moveReferences(part)]),
  );
  if (typeof $ref !== "string" || $ref.startsWith("#/$defs/__")) return rest;
  return { $ref: $ref.replace("#/$defs/", "#/components/schemas/"), ...rest };
}

const contentTypes = {
  json: "application/json",
  text: "text/plain",
  tar: "application/x-tar",
  file: "application/octet-stream",
  events: "text/event-stream",
} as const;

/** What is said of the queries and headers that many requests share. */
const words: Readonly<Record<string, string>> = {
  project: "The project; the token's own when not given, else `default`.",
  cursor: "Where to go on: `nextCursor` of the page before.",
  limit: "The most items on a page.",
  label: "Only what has this label: `key=value`, or `key` for any value. May be given several times.",
  wait: "How many seconds to wait for the operation to end before answering. The answer is 202 either way; the operation's `status` says how far it got.",
  queue: "Wait for the operation that holds the object instead of being refused with `busy`.",
  follow: "Go on with what is written later.",
  force: "Do not wait for the guest: cut the power, and cancel what else is being done.",
  cold: "Drop the memory of a suspended instance and boot it from its disks.",
  after: "The number of the last event seen.",
  timestamps: "Begin each line with its time.",
  tail: "Only the last so many lines.",
  timeout: "How many seconds to wait at most.",
};

/** Makes the OpenAPI 3.1 document of a table of routes; pure. */
export function openApiDocument(routes: Readonly<Record<string, Route>>, version: string): OpenApiDocument {
  const components = new Components();
  const problem = components.of(Problem, "output");
  for (const schema of [ExecRequest, ClientControl]) components.of(schema, "input");
  components.of(ServerControl, "output");

  const paths: Record<string, Record<string, OpenApiOperation>> = {};
  for (const [name, route] of Object.entries(routes)) {
    const path = route.path.replace(/:(\w+)/g, "{$1}");
    paths[path] ??= {};
    (paths[path] as Record<string, OpenApiOperation>)[route.method.toLowerCase()] = operationOf(
      name,
      route,
      components,
      problem,
    );
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Berth",
      version,
      description:
        "Virtual machines from images, on hardware you own. Send `Authorization: Bearer` with a token; every error is a Problem (RFC 9457) with a `code` and a `hint`.",
    },
    servers: [{ url: "/" }],
    security: [{ token: [] }, { session: [] }],
    tags: [...new Set(Object.values(routes).map((route) => tagOf(route)))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        token: { type: "http", scheme: "bearer", bearerFormat: "berth_…" },
        session: { type: "apiKey", in: "cookie", name: "berth-session" },
      },
      schemas: Object.fromEntries(Object.entries(components.schemas).sort(([a], [b]) => (a < b ? -1 : 1))),
    },
  };
}

function tagOf(route: Route): string {
  return `${route.resource}s`;
}

function operationOf(name: string, route: Route, components: Components, problem: JsonSchema): OpenApiOperation {
  const streamType = streamTypeOf(route);
  const content = route.body && { schema: components.of(route.body, "input") };
  const body = content && {
    required: true,
    content: {
      "application/json": content,
      ...(takesMergePatch(route) ? { [mergePatchType]: content } : {}),
    },
  };
  const description = [route.description, route.kind === "websocket" ? websocketWords(name) : undefined]
    .filter(Boolean)
    .join("\n\n");
  return {
    operationId: name,
    summary: route.summary,
    ...(description ? { description } : {}),
    tags: [tagOf(route)],
    ...(route.public ? { security: [] } : {}),
    parameters: [
      ...fieldsOf(route.params, "path", components),
      ...fieldsOf(route.query, "query", components),
      ...headersOf(route),
    ],
    ...(body ? { requestBody: body } : {}),
    ...(streamType ? { requestBody: { required: true, content: { [streamType]: { schema: {} } } } } : {}),
    responses: {
      [route.status]: successOf(route, components),
      default: {
        description: "What went wrong, and what to do next.",
        content: { "application/problem+json": { schema: problem } },
      },
    },
  };
}

const uploadHeaders: JsonSchema = {
  "Upload-Offset": { description: "How many bytes have arrived.", schema: { type: "integer" } },
  "Upload-Length": { description: "How many there shall be; in the answer to HEAD.", schema: { type: "integer" } },
};

function successOf(route: Route, components: Components): OpenApiOperation["responses"][string] {
  if (route.kind === "websocket") return { description: "The connection becomes a WebSocket." };
  if (route.kind === "upload") return { description: "How much has arrived.", headers: uploadHeaders };
  if (streamTypeOf(route) || route.status === 204) return { description: "Done." };
  const schema =
    route.kind === "json" && route.response
      ? components.of(route.response, "output")
      : route.kind === "tar" || route.kind === "file"
        ? {}
        : { type: "string" };
  const words = {
    json: route.status === 202 ? "Accepted; the operation carries it out." : "The answer.",
    text: "Lines of text, as they come.",
    tar: "A tar archive.",
    file: "A file; with a Range header a part of it, and status 206.",
    events: "Server-Sent Events; the data of each is JSON.",
  }[route.kind];
  // The document has no place for the schema of one message of a stream, so it is named beside.
  const message =
    route.kind === "events" && route.response ? { "x-message": components.of(route.response, "output") } : {};
  return { description: words, content: { [contentTypes[route.kind]]: { schema: { ...schema, ...message } } } };
}

function fieldsOf(object: z.ZodObject | undefined, place: "path" | "query", components: Components): Parameter[] {
  return Object.entries(object?.shape ?? {}).map(([name, field]) => {
    const schema = field as z.ZodType;
    const { description = words[name], ...json } = components.of(schema, "output");
    return {
      name,
      in: place,
      required: place === "path" || !schema.safeParse(undefined).success,
      ...(typeof description === "string" && place === "query" ? { description } : {}),
      schema: json,
    };
  });
}

function headersOf(route: Route): Parameter[] {
  const headers: Parameter[] = [];
  if (route.idempotent) {
    headers.push({
      name: "Idempotency-Key",
      in: "header",
      required: false,
      description:
        "Sending the request again with the same key, within a day, does it once and gives the first answer.",
      schema: { type: "string", pattern: "^[!-~]{1,255}$" },
    });
  }
  if (route.precondition) {
    headers.push({
      name: "If-Match",
      in: "header",
      required: false,
      description:
        "The object's ETag as it was read; the request is refused when its spec or labels have changed since.",
      schema: { type: "string" },
    });
  }
  if (route.kind === "file") {
    const schema = { type: "string" };
    headers.push(
      {
        name: "Range",
        in: "header",
        required: false,
        description: "One part: `bytes=OFFSET-` or `bytes=FIRST-LAST`.",
        schema,
      },
      {
        name: "If-Range",
        in: "header",
        required: false,
        description: "The ETag; all is sent when it is another.",
        schema,
      },
    );
  }
  if (streamTypeOf(route) && route.kind === "upload") {
    const schema = { type: "integer", minimum: 0 };
    const description = "How many bytes have arrived; refused with `upload_offset` when it is another number.";
    headers.push({ name: "Upload-Offset", in: "header", required: true, description, schema });
  }
  if (route.path.endsWith("/events/stream")) {
    headers.push({
      name: "Last-Event-ID",
      in: "header",
      required: false,
      description: "Go on after this event; goes before `after`. Browsers send it when they reconnect.",
      schema: { type: "string", pattern: "^[0-9]{1,15}$" },
    });
  }
  return headers;
}

function websocketWords(name: string): string {
  const frames = Object.entries(execFrames)
    .map(([stream, byte]) => `${byte} ${stream}`)
    .join(", ");
  const first = name === "execInstance" ? "The first message is an ExecRequest as JSON text. " : "";
  return `${first}All other messages are binary; their first byte tells the stream: ${frames}. Input with nothing behind that byte ends the input. Control messages are JSON: a ClientControl or a ServerControl, which ends the connection. Leaving kills the program.`;
}

/** The errors of the catalogue, in its order. */
export function listErrors(): readonly {
  readonly code: ErrorCode;
  readonly status: number;
  readonly title: string;
  readonly hint: string;
}[] {
  return Object.entries(errorCatalogue).map(([code, kind]) => ({ code: code as ErrorCode, ...kind }));
}
