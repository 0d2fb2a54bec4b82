import { BerthError, TokenScope } from "@berth/api";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { checkOrigin } from "./host-header.ts";
import type { OAuthAnswer, Services } from "./services.ts";

/** A refusal as RFC 6749 (section 5.2) words it. */
class OAuthError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(code: string, description: string, status = 400) {
    super(description);
    this.code = code;
    this.status = status;
  }
}

/**
 * The endpoints of OAuth 2.0 (RFC 6749): client credentials with an API token, a person's password for our own programs, and refresh; revocation (RFC 7009), the keys
 * (RFC 7517) and where all this is (RFC 8414).
 */
export function oauthEndpoints(app: FastifyInstance, oauth: Services["oauth"], publicUrl: URL | undefined): void {
  // Another site's page has no business here; OAuth has no words for that.
  const ownPagesOnly = async ({ headers }: FastifyRequest) => checkOrigin(headers.origin, headers.host);
  app.post("/oauth/token", { onRequest: ownPagesOnly }, (request, reply) =>
    answering(reply, async () => asBody(await issue(oauth, formOf(request), request))),
  );
  app.post("/oauth/revoke", { onRequest: ownPagesOnly }, (request, reply) =>
    answering(reply, async () => {
      await oauth.revoke(required(formOf(request), "token"));
      return {};
    }),
  );
  app.get("/oauth/jwks.json", async () => ({ keys: await oauth.keys() }));
  app.get("/.well-known/oauth-authorization-server", async (request) => {
    const base = publicUrl?.origin ?? `http://${request.headers.host}`;
    return {
      issuer: base,
      token_endpoint: `${base}/oauth/token`,
      revocation_endpoint: `${base}/oauth/revoke`,
      jwks_uri: `${base}/oauth/jwks.json`,
      grant_types_supported: ["client_credentials", "password", "refresh_token"],
      response_types_supported: [],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
    };
  });
}

async function issue(oauth: Services["oauth"], form: URLSearchParams, request: FastifyRequest): Promise<OAuthAnswer> {
  const scopes = scopesIn(form);
  const kind = required(form, "grant_type");
  if (kind === "client_credentials") {
    const { clientId, secret } = clientOf(form, request.headers.authorization);
    return oauth.byClient({ clientId, secret, scopes }).catch((error: unknown) => {
      const isUnknown = error instanceof BerthError && error.code === "unauthenticated";
      throw isUnknown ? new OAuthError("invalid_client", error.message, 401) : error;
    });
  }
  if (kind === "password") {
    return oauth.byPassword(
      { user: required(form, "username"), password: required(form, "password"), scopes },
      request.ip,
    );
  }
  if (kind === "refresh_token") return oauth.byRefreshToken({ refreshToken: required(form, "refresh_token") });
  throw new OAuthError("unsupported_grant_type", "The grant type is none of those that are supported.");
}

function formOf({ body }: FastifyRequest): URLSearchParams {
  if (body instanceof URLSearchParams) return body;
  throw new OAuthError("invalid_request", "The body must be application/x-www-form-urlencoded.");
}

function required(form: URLSearchParams, name: string): string {
  const values = form.getAll(name);
  const [value] = values;
  if (value && values.length === 1 && value.length <= 1000) return value;
  throw new OAuthError("invalid_request", `${name} must be given once.`);
}

function scopesIn(form: URLSearchParams): string[] | null {
  const scopes = (form.get("scope") ?? "").split(" ").filter(Boolean);
  if (scopes.length === 0) return null;
  if (scopes.length <= 64 && scopes.every((scope) => TokenScope.safeParse(scope).success)) return scopes;
  throw new OAuthError(
    "invalid_scope",
    "A scope is a kind of object, and what may be done to it: instance, image:read.",
  );
}

/** The client's name and secret: by HTTP Basic, else in the form. */
function clientOf(form: URLSearchParams, authorization: string | undefined) {
  const basic = /^Basic +([A-Za-z0-9+/=]{1,1000})$/i.exec(authorization ?? "")?.[1];
  if (basic === undefined) return { clientId: required(form, "client_id"), secret: required(form, "client_secret") };
  const [clientId = "", secret = ""] = Buffer.from(basic, "base64").toString("utf8").split(":");
  return { clientId: decodeURIComponent(clientId), secret: decodeURIComponent(secret) };
}

function asBody({ accessToken, lifetimeMs, refreshToken, scopes }: OAuthAnswer) {
  return {
    access_token: accessToken,
    token_type: "Bearer",
    expires_in: lifetimeMs / 1000,
    ...(refreshToken === null ? {} : { refresh_token: refreshToken }),
    ...(scopes === null ? {} : { scope: scopes.join(" ") }),
  };
}

/** Sends what comes of it, or the refusal in OAuth's own words. */
async function answering(reply: FastifyReply, work: () => Promise<object>): Promise<FastifyReply> {
  reply.header("pragma", "no-cache");
  try {
    return reply.send(await work());
  } catch (error) {
    const refusal = refusalOf(error);
    if (!refusal) throw error;
    if (refusal.status === 401) reply.header("www-authenticate", 'Basic realm="berth"');
    if (error instanceof BerthError && error.code === "rate_limited")
      reply.header("retry-after", String(error.retryAfterSeconds ?? 1));
    return reply.code(refusal.status).send({ error: refusal.code, error_description: refusal.message });
  }
}

function refusalOf(error: unknown): OAuthError | undefined {
  if (error instanceof OAuthError) return error;
  if (error instanceof URIError) return new OAuthError("invalid_client", "The client's name is not readable.", 401);
  if (!(error instanceof BerthError)) return undefined;
  if (error.code === "rate_limited") return new OAuthError("invalid_grant", error.message, 429);
  if (error.code === "wrong_password") return new OAuthError("invalid_grant", error.message);
  if (error.code === "forbidden") return new OAuthError("invalid_scope", error.message);
  return error.code === "unauthenticated" ? new OAuthError("invalid_grant", error.message) : undefined;
}
