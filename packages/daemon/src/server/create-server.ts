import { randomBytes } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";
import { type Action, BerthError, type Resource, type Route, type RouteName, routes } from "@berth/api";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from "fastify";
import type { z } from "zod";
import { authorize, type Caller } from "../identity/authorize.ts";
import { type Authenticate, authenticator } from "./authenticate.ts";
import { type Attach, type Call, type MessageStream, projectIn, projectOf } from "./call.ts";
import { documentation } from "./documentation.ts";
import { checkHost, checkOrigin } from "./host-header.ts";
import { checkJsonDepth, maxJsonDepth } from "./json-body.ts";
import { loginPages } from "./login-page.ts";
import { type LongAnswer, LongAnswers } from "./long-answers.ts";
import { oauthEndpoints } from "./oauth.ts";
import { passwordPage } from "./password-page.ts";
import { problemOf, toBerthError } from "./problems.ts";
import { rateLimits } from "./rate-limits.ts";
import { joinHandlers } from "./routes/index.ts";
import type { FileAnswer, Scope, Services } from "./services.ts";
import { forgeryIn, type SessionCookie, sessionCookie } from "./session-cookie.ts";
import { openFile, sendBytes, sendEvents } from "./streams.ts";
import { acceptUpgrades, type Upgrades } from "./upgrade.ts";
import { mergePatchType, streamTypeOf, takesMergePatch, validator } from "./validate.ts";

export interface ServerOptions {
  readonly services: Services;
  /** Nothing is logged without it. */
  readonly log?: FastifyBaseLogger;
  /** Names of this host, besides its addresses and localhost, that a Host header may carry. */
  readonly hostNames?: readonly string[];
  /** The address that people use, where that is another than berthd listens on; with https, sessions are kept to TLS. */
  readonly publicUrl?: URL | undefined;
  /** Holds every answer to its schema, and fails with `internal` when it differs: for tests and development. */
  readonly checkResponses?: boolean;
  readonly tuning?: Partial<Tuning>;
}

/** Limits and times, all in milliseconds or bytes. */
export interface Tuning {
  readonly maxBodyBytes: number;
  readonly maxJsonDepth: number;
  readonly heartbeatMs: number;
  readonly slowReaderMs: number;
  readonly pingMs: number;
  /** How long a token is remembered, and how often long answers are asked about again. */
  readonly tokenCacheMs: number;
  /** How long closing waits for answers under way before it cuts them. */
  readonly closeMs: number;
  /** How many requests a second each token and user may send, ten seconds' worth at once; 0 for no limit. */
  readonly requestsPerSecond: number;
  /** Protections that a test switches off to see it fail without them. */
  readonly without: readonly (
    | "host-check"
    | "origin-check"
    | "authentication"
    | "authorization"
    | "asking-again"
    | "forgery-check"
  )[];
}

const defaults: Tuning = {
  maxBodyBytes: 1024 * 1024,
  maxJsonDepth,
  heartbeatMs: 15_000,
  slowReaderMs: 10_000,
  pingMs: 30_000,
  tokenCacheMs: 500,
  closeMs: 5_000,
  requestsPerSecond: 200,
  without: [],
};

declare module "fastify" {
  interface FastifyRequest {
    caller: Caller | null;
  }
}

/** What an answer's headers always say: nothing of it may be kept by a cache, guessed at, run, shown in a frame or used by another site's page, nor tell where somebody came from. */
const commonHeaders = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
} as const;
/** Where people come by TLS, their browsers shall from then on for a year (RFC 6797). */
const tlsHeaders = { ...commonHeaders, "strict-transport-security": "max-age=31536000" } as const;

const problemType = "application/problem+json; charset=utf-8";

/** Makes the HTTP server of one daemon, not listening yet. `close()` ends streams, waits a bounded time for answers under way, and cuts the rest. */
export function createServer(options: ServerOptions): FastifyInstance {
  const tuning = { ...defaults, ...options.tuning };
  const closing = new AbortController();
  const app: FastifyInstance = Fastify({
    ...(options.log ? { loggerInstance: options.log } : { logger: false }),
    logController: new LogController({ disableRequestLogging: true }),
    // One for each request would cost more than most requests write; what is written names its request itself.
    childLoggerFactory: (log) => log,
    // A request without a Host header is refused by `checkHost`, in the words of all refusals.
    http: { requireHostHeader: false },
    bodyLimit: tuning.maxBodyBytes,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    requestIdHeader: false,
    genReqId: (request) => requestId(request.headers["x-request-id"]),
    routerOptions: { maxParamLength: 512 },
    frameworkErrors: (error, request, reply) => void answerError(error, request, reply),
    clientErrorHandler: refuseUnreadable,
  });

  app.decorateRequest("caller", null);
  app.setErrorHandler((error, request, reply) => answerError(error, request, reply));
  app.setNotFoundHandler((request, reply) => refuseUnknown(request, reply));
  parseBodies(app, tuning);

  const { publicUrl } = options;
  const hostNames = [...(options.hostNames ?? []), ...(publicUrl ? [publicUrl.hostname] : [])].map((name) =>
    name.toLowerCase(),
  );
  const headers = publicUrl?.protocol === "https:" ? tlsHeaders : commonHeaders;
  const checksHost = !tuning.without.includes("host-check");
  // Hooks that need not wait call back at once: a promise for each would be a good part of what a small request costs.
  app.addHook("onRequest", (request, reply, done) => {
    reply.headers(headers);
    reply.header("x-request-id", request.id);
    if (checksHost) checkHost(request.headers.host, hostNames);
    done(closing.signal.aborted ? closing.signal.reason : undefined);
  });

  const upgrades = acceptUpgrades(app, tuning.pingMs);
  const cookie = sessionCookie(publicUrl?.protocol === "https:");
  const { tokens, sessions, oauth } = options.services;
  const callers = { ofToken: tokens.find, ofSession: sessions.find, ofAccessToken: oauth.find };
  const known = authenticator(callers, cookie, tuning.tokenCacheMs);
  const authenticate = tuning.without.includes("authentication") ? () => anybody : known.authenticate;
  const longAnswers = new LongAnswers(tuning.tokenCacheMs);
  const stopHearing = tokens.onLess(() => {
    known.forget();
    longAnswers.askAll();
  });
  const checksForgery = !tuning.without.includes("forgery-check");
  const limits = rateLimits(tuning.requestsPerSecond);
  const handlers = joinHandlers();
  for (const [name, route] of Object.entries<Route>(routes)) {
    app.route({
      method: route.method,
      url: route.path,
      onRequest: (request, reply, done) => {
        const enter = (caller: Caller) => {
          request.caller = caller;
          const { session } = caller;
          const forgery =
            session !== null && checksForgery ? forgeryIn(route.method, request.headers, session) : undefined;
          done(limits.ofCaller(caller.id, reply) ?? forgery ?? wrongMediaType(route, request));
        };
        if (route.public) {
          checkOrigin(request.headers.origin, request.headers.host);
          request.caller = nobody;
          return done(limits.ofAddress(request.ip, reply) ?? wrongMediaType(route, request));
        }
        const refuse = (error: Error) => done(limits.ofAddress(request.ip, reply) ?? error);
        try {
          const found = authenticate(request.headers);
          if (found instanceof Promise) void found.then(enter, refuse);
          else enter(found);
        } catch (error) {
          refuse(error as Error);
        }
      },
      handler: answerer(name as RouteName, route, {
        services: options.services,
        handler: handlers[name as RouteName] as (call: unknown) => Promise<unknown>,
        upgrades,
        authenticate,
        cookie,
        longAnswers,
        closing: closing.signal,
        tuning,
        checkResponses: options.checkResponses ?? false,
      }),
    });
  }
  app.get("/healthz", async (_, reply) => reply.type("text/plain; charset=utf-8").send("ok\n"));
  app.get("/", async (_, reply) => reply.redirect("/docs", 302));
  documentation(app);
  passwordPage(app);
  loginPages(app);
  oauthEndpoints(app, oauth, limits, options.publicUrl);

  let cut: NodeJS.Timeout | undefined;
  app.addHook("preClose", async () => {
    closing.abort(new BerthError("shutting_down", "berthd is shutting down."));
    upgrades.closeAll();
    cut = setTimeout(() => {
      app.server.closeAllConnections();
      upgrades.terminateAll();
    }, tuning.closeMs);
  });
  app.addHook("onClose", async () => {
    stopHearing();
    clearTimeout(cut);
  });
  return app;
}

/** Who comes where everybody is let in. */
const nobody: Caller = {
  id: "t-0",
  name: "nobody",
  session: null,
  admin: false,
  roles: new Map(),
  project: null,
  scopes: null,
  expiresAt: null,
};
/** Who comes when authentication is switched off. */
const anybody: Caller = { ...nobody, admin: true };

interface Answering {
  readonly services: Services;
  readonly handler: (call: unknown) => Promise<unknown>;
  readonly upgrades: Upgrades;
  readonly authenticate: Authenticate;
  readonly cookie: SessionCookie;
  readonly longAnswers: LongAnswers;
  readonly closing: AbortSignal;
  readonly tuning: Tuning;
  readonly checkResponses: boolean;
}

/** What Fastify runs for one route: check, authorise, handle, answer. */
function answerer(name: RouteName, route: Route, parts: Answering) {
  const validate = validator(route);
  const { services, handler, upgrades, tuning } = parts;

  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const { caller } = request;
    if (!caller) throw new BerthError("unauthenticated", "The request was not authenticated.");
    const { params, query, body } = validate(request);
    const project = projectOf(caller, params, query);
    const call = new CallOf({ services, scope: { caller, project }, params, query, body }, request, reply, parts);
    call.authorize(route.action, route.resource, project);
    // All others have a role in it, so it is there.
    if (caller.admin && projectIn(query) !== undefined) await services.projects.get(project);

    if (route.kind === "websocket") {
      if (!upgrades.has(request)) {
        reply.header("upgrade", "websocket");
        throw new BerthError("upgrade_required", "This is no WebSocket request.");
      }
      if (!tuning.without.includes("origin-check")) checkOrigin(request.headers.origin, request.headers.host);
      const attach = (await handler(call)) as Attach;
      const socket = await upgrades.accept(request, reply);
      const left = new AbortController();
      socket.on("close", () => left.abort(new BerthError("cancelled", "The client left.")));
      using allowed = call.askAgain();
      await logged(request, attach(socket, AbortSignal.any([left.signal, allowed.signal, parts.closing])));
      return reply;
    }

    const result = await handler(call);
    if (route.kind === "events") {
      await logged(request, sendEvents(reply, result as MessageStream<unknown>, tuning, call.signal));
      return reply;
    }
    if (route.kind === "file") {
      const { status, stream } = openFile(reply, request.headers, result as FileAnswer);
      await logged(request, sendBytes(reply, status, "application/octet-stream", stream, call.signal));
      return reply;
    }
    if (route.status === 204) return reply.code(204).send();
    if (route.kind === "json") {
      if (parts.checkResponses) checkResponse(name, route.response, result);
      linkNextPage(request, reply, result);
      return reply.code(route.status).type("application/json; charset=utf-8").send(jsonOf(result));
    }
    const type = route.kind === "tar" ? "application/x-tar" : "text/plain; charset=utf-8";
    await logged(request, sendBytes(reply, route.status, type, result as Readable, call.signal));
    return reply;
  };
}

type Checked = Record<"services" | "params" | "query" | "body", unknown> & { readonly scope: Scope };

/** A class, since an object with an accessor of its own is costly to make, and one is made for each request. */
class CallOf implements Record<keyof Call, unknown> {
  readonly services: unknown;
  readonly scope: Scope;
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
  readonly headers: IncomingHttpHeaders;
  readonly #request: FastifyRequest;
  readonly #reply: FastifyReply;
  readonly #parts: Answering;
  /** What was asked of `authorize()` so far. */
  readonly #asked: [Action, Resource, string][] = [];
  #signal: AbortSignal | undefined;

  constructor(checked: Checked, request: FastifyRequest, reply: FastifyReply, parts: Answering) {
    this.services = checked.services;
    this.scope = checked.scope;
    this.params = checked.params;
    this.query = checked.query;
    this.body = checked.body;
    this.headers = request.headers;
    this.#request = request;
    this.#reply = reply;
    this.#parts = parts;
  }

  get address(): string {
    return this.#request.ip;
  }

  get cookie(): SessionCookie {
    return this.#parts.cookie;
  }

  authorize(action: Action, resource: Resource, project: string): void {
    this.#asked.push([action, resource, project]);
    if (!this.#parts.tuning.without.includes("authorization")) authorize(this.scope.caller, action, resource, project);
  }

  /** Made when it is asked for: most requests are answered without. */
  get signal(): AbortSignal {
    this.#signal ??= signalOf(this.#reply, this.#parts.closing, this.askAgain());
    return this.#signal;
  }

  /** Has everything that was asked of `authorize()` asked again while this is answered, of who the caller is by then. */
  askAgain(): LongAnswer {
    const { longAnswers, authenticate, tuning } = this.#parts;
    return longAnswers.begin(async () => {
      if (tuning.without.includes("asking-again")) return;
      const { again } = this.scope.caller;
      const caller = again ? await again() : await authenticate(this.headers);
      if (!caller) throw new BerthError("unauthenticated", "The login has ended.");
      if (tuning.without.includes("authorization")) return;
      for (const [action, resource, project] of this.#asked) authorize(caller, action, resource, project);
    });
  }

  header(name: string, value: string): void {
    this.#reply.header(name, value);
  }
}

const texts = new WeakMap<object, string>();

/** An object as JSON. One that is frozen, as the store shares them, is written down once. */
function jsonOf(result: unknown): string {
  if (typeof result !== "object" || result === null || !Object.isFrozen(result)) return JSON.stringify(result);
  const known = texts.get(result);
  if (known !== undefined) return known;
  const text = JSON.stringify(result);
  texts.set(result, text);
  return text;
}

/** Names the next page of a list in a Link header too (RFC 8288), for clients that follow those. */
function linkNextPage(request: FastifyRequest, reply: FastifyReply, result: unknown): void {
  const cursor = (result as { nextCursor?: string | null }).nextCursor;
  if (typeof cursor !== "string") return;
  const [path, text] = request.url.split("?");
  const query = new URLSearchParams(text);
  query.set("cursor", cursor);
  reply.header("link", `<${path}?${query}>; rel="next"`);
}

/** What goes wrong after an answer has begun can only be logged. */
async function logged(request: FastifyRequest, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    request.log.error({ err: error, reqId: request.id, url: request.url }, "an answer broke off");
  }
}

/** Aborted when the answer is over or its client gone, with the server's own reason when it closes, and with the refusal when it is not allowed any more. */
function signalOf(reply: FastifyReply, closing: AbortSignal, allowed: LongAnswer): AbortSignal {
  const controller = new AbortController();
  const onClosing = () => controller.abort(closing.reason);
  closing.addEventListener("abort", onClosing, { once: true });
  if (closing.aborted) onClosing();
  allowed.signal.addEventListener("abort", () => controller.abort(allowed.signal.reason), { once: true });
  reply.raw.once("close", () => {
    closing.removeEventListener("abort", onClosing);
    allowed[Symbol.dispose]();
    controller.abort(new BerthError("cancelled", "The client left."));
  });
  if (reply.raw.destroyed) {
    allowed[Symbol.dispose]();
    controller.abort(new BerthError("cancelled", "The client left."));
  }
  return controller.signal;
}

/** Refuses an answer that its schema would not accept, or that tells more than the schema has. */
function checkResponse(name: RouteName, schema: z.ZodType | undefined, answer: unknown): void {
  const sent: unknown = JSON.parse(JSON.stringify(answer));
  const result = schema?.safeParse(sent);
  if (!result?.success) throw new Error(`The answer of ${name} does not fit its schema: ${result?.error.message}`);
  if (!isDeepStrictEqual(result.data, sent)) throw new Error(`The answer of ${name} has more than its schema.`);
}

/** JSON, and what RFC 7396 calls a change of an object in it. */
const jsonTypes = ["application/json", mergePatchType];

/** Bodies that their handlers read. */
const streamTypes = ["application/x-tar", "application/offset+octet-stream"];

/** JSON is read whole, within the limits; archives are streams and for their handler to bound. */
function parseBodies(app: FastifyInstance, tuning: Tuning): void {
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser("error", "error");
  app.addContentTypeParser(jsonTypes, { parseAs: "string" }, (request, text: string, done) => {
    if (text === "") return done(null, undefined);
    try {
      checkJsonDepth(text, tuning.maxJsonDepth);
    } catch (error) {
      return done(error as Error);
    }
    return parseJson(request, text, done);
  });
  app.addContentTypeParser("application/x-www-form-urlencoded", { parseAs: "string" }, (_request, text: string, done) =>
    done(null, new URLSearchParams(text)),
  );
  for (const type of streamTypes) app.addContentTypeParser(type, (_request, payload, done) => done(null, payload));
}

/** Why a body of this type is refused before any of it is read; undefined when the route reads it. */
function wrongMediaType(route: Route, request: FastifyRequest): BerthError | undefined {
  const given = request.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  const wanted = streamTypeOf(route) ?? "application/json";
  if (given === wanted || (given === undefined && wanted === "application/json")) return undefined;
  if (given === mergePatchType && takesMergePatch(route)) return undefined;
  return new BerthError("unsupported_media_type", `The body must be ${wanted}, not ${given ?? "of no type"}.`);
}

function answerError(thrown: unknown, request: FastifyRequest, reply: FastifyReply) {
  const error = toBerthError(thrown);
  const problem = problemOf(error, request.id);
  if (problem.status >= 500 && problem.code !== "shutting_down") {
    const { id: reqId, method, url } = request;
    request.log.error({ err: thrown, reqId, method, url }, problem.detail);
  }
  if (error instanceof BerthError && error.code === "rate_limited")
    reply.header("retry-after", String(error.retryAfterSeconds ?? 1));
  if (problem.status === 401) reply.header("www-authenticate", 'Bearer realm="berth"');
  if (problem.status === 503) reply.header("connection", "close").header("retry-after", "1");
  // Nobody reads the rest of a body that was given up midway, and so nothing that came after it on the same connection.
  if (request.raw.destroyed && !request.raw.complete) reply.header("connection", "close");
  reply.headers(commonHeaders).header("x-request-id", request.id);
  return reply.code(problem.status).type(problemType).send(JSON.stringify(problem));
}

const pathsByMethod = Object.values<Route>(routes).map((route) => ({
  method: route.method,
  pattern: new RegExp(`^${route.path.replace(/:\w+/g, "[^/]+")}$`),
}));

function refuseUnknown(request: FastifyRequest, reply: FastifyReply): never {
  const path = request.url.split("?")[0] ?? "";
  const methods = new Set(pathsByMethod.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method));
  if (methods.size === 0) throw new BerthError("route_not_found", `There is no ${path.slice(0, 200)}.`);
  reply.header("allow", [...methods].join(", "));
  throw new BerthError("method_not_allowed", `${request.method} is not for ${path.slice(0, 200)}.`);
}

const processId = randomBytes(4).toString("hex");
let requestCount = 0;

/** A client's own id when it is plain, else a new one: of this process, and in order. */
function requestId(given: string | string[] | undefined): string {
  if (typeof given === "string" && /^[A-Za-z0-9._-]{1,64}$/.test(given)) return given;
  requestCount += 1;
  return `req-${processId}-${requestCount}`;
}

/** Answers what is no HTTP at all. */
function refuseUnreadable(error: Error & { code?: string }, socket: import("node:net").Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const tooLarge = error.code === "HPE_HEADER_OVERFLOW";
  const detail = tooLarge ? "The request's headers are too large." : "The request is not readable as HTTP.";
  const body = JSON.stringify(problemOf(new BerthError("invalid_request", detail), requestId(undefined)));
  socket.end(
    `HTTP/1.1 400 Bad Request\r\ncontent-type: ${problemType}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
