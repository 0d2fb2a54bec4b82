import type { z } from "zod";
import { ApiError, errorOf, isAbort, reasonOf, UnreachableError } from "./api-error.ts";
import { Event, EventGap } from "./event.ts";
import { type GuestSession, guestSession } from "./exec-session.ts";
import type { ExecRequestInput } from "./instance.ts";
import { isFinal, Operation } from "./operation.ts";
import type { Route } from "./route.ts";
import { type RouteName, routes } from "./routes/index.ts";
import { readServerSentEvents, type ServerSentEvent } from "./server-sent-events.ts";

export interface ClientOptions {
  /** Where berthd listens: `http://127.0.0.1:8642`. */
  readonly url: string;
  /** Shown with each request. A function is asked each time, and what it throws is what the request rejects with: the one at that address may change. */
  readonly token: string | (() => string);
  /** Awaited before each request, which then shows the `token` of that moment: one that is about to end is made new. */
  readonly renew?: (() => Promise<void>) | undefined;
  /** The project of requests that name none; the token's own when not given. */
  readonly project?: string | undefined;
  /** Instead of the global one, for tests. */
  readonly fetch?: typeof fetch;
}

/** What every call takes besides its own input. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Sending a change again with the same key does it once. */
  readonly idempotencyKey?: string | undefined;
  /** The ETag the object must still have: its generation. */
  readonly ifMatch?: number | undefined;
  /** Of a file: only what follows this many bytes; of an upload: what is sent follows this many. */
  readonly fromByte?: number | undefined;
}

type Routes = typeof routes;
type PlainKind = "json" | "text" | "tar" | "file" | "upload";
type NamesOf<Kind extends Route["kind"]> = { [N in RouteName]: Routes[N]["kind"] extends Kind ? N : never }[RouteName];

/** The keys a query takes, with the types they have once read: `{follow: true}`, although the URL says `follow=true`. */
type QueryOf<Q extends z.ZodObject> = {
  [K in keyof z.input<Q>]:
    | (K extends keyof z.output<Q> ? NonNullable<z.output<Q>[K]> : never)
    | (undefined extends z.input<Q>[K] ? undefined : never);
};

type Part<R, Key extends "params" | "query" | "body"> = R extends { readonly [K in Key]: infer S extends z.ZodType }
  ? Wrap<Key, Key extends "query" ? (S extends z.ZodObject ? QueryOf<S> : never) : z.input<S>>
  : unknown;
/** An object whose keys may all be left out may be left out itself. */
type Wrap<Key extends string, T> =
  Record<never, never> extends T ? { readonly [K in Key]?: T } : { readonly [K in Key]: T };

/** What a tar archive or an upload may be sent from. */
export type ArchiveBody = ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | Uint8Array | Blob;

export type InputOf<N extends RouteName> = Part<Routes[N], "params"> &
  Part<Routes[N], "query"> &
  Part<Routes[N], "body"> &
  (N extends "writeFiles" | "writeArchive" ? { readonly body: ArchiveBody } : unknown);

export type OutputOf<N extends RouteName> = Routes[N] extends {
  readonly kind: "json";
  readonly response: infer S extends z.ZodType;
}
  ? z.output<S>
  : Routes[N] extends { readonly status: 204 }
    ? undefined
    : ReadableStream<Uint8Array>;

type Call<N extends RouteName> =
  Record<never, never> extends InputOf<N>
    ? (input?: InputOf<N>, options?: CallOptions) => Promise<OutputOf<N>>
    : (input: InputOf<N>, options?: CallOptions) => Promise<OutputOf<N>>;

/** One method for each route that answers with JSON, text, a tar archive or a file, by the route's name; what streams both ways or for ever has its own. */
export type Client = { readonly [N in NamesOf<PlainKind>]: Call<N> } & {
  readonly url: string;
  /** Events after number `after` (from now on when not given), then each new one, reconnecting where it left off; `onGap` hears of what is not kept any more. Ends when aborted. */
  followEvents(options?: FollowOptions): AsyncGenerator<Event, void>;
  /**
   * Waits for an operation's end and returns it, however it ended: look at its `status`. `onProgress` hears of every change. Survives a restart of berthd;
   * rejects with the signal's reason when aborted.
   */
  waitForOperation(id: string, options?: WaitOptions): Promise<Operation>;
  /** Runs a program in the guest. */
  exec(instance: string, request: ExecRequestInput, options?: SessionOptions): GuestSession;
  /** Attaches to the serial console. */
  console(instance: string, options?: SessionOptions): GuestSession;
};

export interface FollowOptions {
  readonly after?: number | undefined;
  readonly project?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Whoever keeps a picture of what there is has to list it anew then. */
  readonly onGap?: ((gap: EventGap) => void) | undefined;
}

export interface WaitOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((operation: Operation) => void) | undefined;
}

export interface SessionOptions {
  readonly project?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How long a stream that had worked tries to come back before it gives up. */
const giveUpAfterMs = 60_000;

/** Makes a client of one berthd. Methods reject with an ApiError for any answer but success, and with an UnreachableError when there is no answer. */
export function createClient(options: ClientOptions): Client {
  const base = options.url.replace(/\/+$/, "");
  const doFetch = options.fetch ?? fetch;
  const { token } = options;
  const authorize = () => `Bearer ${typeof token === "string" ? token : token()}`;

  /** Sends one request; the answer is a success. */
  async function send(name: RouteName, input: AnyInput, call: CallOptions & { headers?: Record<string, string> }) {
    const definition: Route = routes[name];
    await options.renew?.();
    const headers: Record<string, string> = { authorization: authorize(), ...call.headers };
    if (call.idempotencyKey !== undefined) headers["idempotency-key"] = call.idempotencyKey;
    if (call.ifMatch !== undefined) headers["if-match"] = `"${call.ifMatch}"`;
    if (call.fromByte && definition.kind === "file") headers.range = `bytes=${call.fromByte}-`;
    const init: RequestInit & { duplex?: "half" } = { method: definition.method, headers };
    if (call.signal) init.signal = call.signal;
    if (definition.kind === "upload") headers["upload-offset"] = String(call.fromByte ?? 0);
    if (isStreamed(definition) && input.body !== undefined) {
      headers["content-type"] = definition.kind === "tar" ? "application/x-tar" : "application/offset+octet-stream";
      init.body = input.body as NonNullable<RequestInit["body"]>;
      init.duplex = "half";
    } else if (input.body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(input.body);
    }
    let response: Response;
    try {
      response = await doFetch(base + pathOf(definition, input, options.project), init);
    } catch (error) {
      if (isAbort(error) || call.signal?.aborted) throw error;
      throw new UnreachableError(base, reasonOf(error), { cause: error });
    }
    if (!response.ok) throw await errorOf(response, base);
    if (call.fromByte && definition.kind === "file" && response.status !== 206) {
      await response.body?.cancel();
      throw new UnreachableError(base, "it sends files from their beginning only; a proxy on the way may hinder it");
    }
    return response;
  }

  async function call(name: RouteName, input: AnyInput = {}, callOptions: CallOptions = {}): Promise<unknown> {
    const definition: Route = routes[name];
    const response = await send(name, input, callOptions);
    if (definition.status === 204) return undefined;
    if (definition.kind !== "json") return bodyOf(response);
    const parsed = definition.response?.safeParse(await response.json());
    if (!parsed?.success) {
      throw new UnreachableError(
        base,
        `its answer is not what this version expects (${parsed?.error.issues[0]?.path.join(".")})`,
      );
    }
    return parsed.data;
  }

  /**
   * Reads a stream of messages, and again from where it broke off whenever it breaks, until the reader leaves or the signal is aborted.
   * What the server refuses, or a first connection that fails, is thrown at once.
   */
  async function* follow(
    name: NamesOf<"events">,
    input: AnyInput,
    signal: AbortSignal | undefined,
    lastEventId = "",
  ): AsyncGenerator<ServerSentEvent, void> {
    let lastContact: number | undefined;
    let id = lastEventId;
    let failures = 0;
    while (!signal?.aborted) {
      try {
        const response = await send(name, input, { signal, headers: id ? { "last-event-id": id } : {} });
        failures = 0;
        const messages = readServerSentEvents(bodyOf(response), (seen) => {
          id = seen;
        });
        for await (const message of messages) {
          lastContact = Date.now();
          yield message;
        }
        lastContact = Date.now();
      } catch (error) {
        if (signal?.aborted) return;
        const refused = error instanceof ApiError && error.code !== "shutting_down";
        if (refused || lastContact === undefined || Date.now() - lastContact > giveUpAfterMs) throw error;
        failures += 1;
      }
      await delay(Math.min(5000, 100 * 2 ** failures) * (0.5 + Math.random() / 2), signal);
    }
  }

  function session(
    name: "execInstance" | "consoleInstance",
    instance: string,
    request: ExecRequestInput | null,
    sessionOptions: SessionOptions,
  ) {
    const asked = { params: { instance }, query: { project: sessionOptions.project } };
    const path = pathOf(routes[name], asked, options.project);
    // Node's WebSocket takes headers; a browser's does not, and its types do not know them.
    const explain = () =>
      send(name, asked, {}).then(
        () => new UnreachableError(base, "something else answers there"),
        (error: unknown) =>
          error instanceof ApiError && error.code === "upgrade_required"
            ? new UnreachableError(
                base,
                "the WebSocket could not be opened; a proxy on the way may not let them through",
              )
            : (error as Error),
      );
    const Socket = WebSocket as unknown as new (url: string, options: { headers: Record<string, string> }) => WebSocket;
    const socket = new Socket(base.replace(/^http/, "ws") + path, { headers: { authorization: authorize() } });
    return guestSession(socket, request, base, explain, sessionOptions.signal);
  }

  const calls = Object.fromEntries(
    Object.entries<Route>(routes)
      .filter(([, definition]) => ["json", "text", "tar", "file", "upload"].includes(definition.kind))
      .map(([name]) => [
        name,
        (input?: AnyInput, callOptions?: CallOptions) => call(name as RouteName, input, callOptions),
      ]),
  ) as { readonly [N in NamesOf<PlainKind>]: Call<N> };

  return {
    ...calls,
    url: base,
    async *followEvents({ after, project, signal, onGap } = {}) {
      const lastEventId = after === undefined ? "" : String(after);
      for await (const { type, data } of follow("streamEvents", { query: { project } }, signal, lastEventId)) {
        if (type === "gap") onGap?.(EventGap.parse(JSON.parse(data)));
        else yield Event.parse(JSON.parse(data));
      }
    },
    async waitForOperation(id, { signal, onProgress } = {}) {
      for await (const { data } of follow("watchOperation", { params: { operation: id } }, signal)) {
        const operation = Operation.parse(JSON.parse(data));
        onProgress?.(operation);
        if (isFinal(operation.status)) return operation;
      }
      throw signal?.reason;
    },
    exec: (instance, request, sessionOptions = {}) => session("execInstance", instance, request, sessionOptions),
    console: (instance, sessionOptions = {}) => session("consoleInstance", instance, null, sessionOptions),
  };
}

/** Whether a request's body is a stream of bytes. */
function isStreamed({ kind }: Route): boolean {
  return kind === "tar" || kind === "upload";
}

interface AnyInput {
  readonly params?: object;
  readonly query?: object;
  readonly body?: unknown;
}

/** The path and query of a request, for this project when it names none. Values that are undefined are left out, lists are repeated. */
function pathOf(definition: Route, input: AnyInput, project: string | undefined): string {
  const params = (input.params ?? {}) as Record<string, string>;
  const path = definition.path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(params[name] ?? ""));
  const query = new URLSearchParams();
  const isOfProject = definition.query !== undefined && "project" in definition.query.shape;
  const given = Object.entries(input.query ?? {}).filter(([, value]) => value !== undefined);
  for (const [key, value] of Object.entries({ ...(isOfProject && { project }), ...Object.fromEntries(given) })) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined) query.append(key, String(one));
  }
  return query.size > 0 ? `${path}?${query}` : path;
}

/** An answer's body; empty when it has none. */
function bodyOf(response: Response): ReadableStream<Uint8Array> {
  return response.body ?? new Blob([]).stream();
}

/** Waits; returns early when aborted. */
function delay(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done, { once: true });
  });
}
