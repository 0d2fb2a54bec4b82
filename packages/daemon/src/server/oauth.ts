import { BerthError, TokenScope } from "@berth/api";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { checkOrigin } from "./host-header.ts";
import type { RateLimits } from "./rate-limits.ts";
import type { DeviceWaits, OAuthAnswer, Services } from "./services.ts";

/** The grant type of RFC 8628. */
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code";

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
 * The endpoints of OAuth 2.0 (RFC 6749): client credentials with an API token, a person's password for our own programs, refresh, and what a user allowed by a code (RFC 7636) or on a device (RFC 8628); revocation (RFC 7009), the keys
 * (RFC 7517) and where all this is (RFC 8414).
 */
export function oauthEndpoints(
  app: FastifyInstance,
  oauth: Services["oauth"],
  limits: RateLimits,
  publicUrl: URL | undefined,
): void {
  const baseOf = ({ headers }: FastifyRequest) => publicUrl?.origin ?? `http://${headers.host}`;
  // Another site's page has no business here; OAuth has no words for that.
  const ownPagesOnly = async ({ headers, ip }: FastifyRequest, reply: FastifyReply) => {
    checkOrigin(headers.origin, headers.host);
    const tooMany = limits.ofAddress(ip, reply);
    if (tooMany) throw tooMany;
  };
  app.post("/oauth/token", { onRequest: ownPagesOnly }, (request, reply) =>
    answering(reply, async () => asBody(await issue(oauth, formOf(request), request))),
  );
  app.post("/oauth/device_authorization", { onRequest: ownPagesOnly }, (request, reply) =>
    answering(reply, async () => {
      const form = formOf(request);
      ofOurProgram(form);
      const begun = await oauth.beginDevice({ scopes: scopesIn(form) });
      const page = `${baseOf(request)}/device`;
      return {
        device_code: begun.deviceCode,
        user_code: begun.userCode,
        verification_uri: page,
        // Behind the #, so that no log of a proxy has it.
        verification_uri_complete: `${page}#${begun.userCode}`,
        expires_in: begun.lifetimeMs / 1000,
        interval: begun.intervalMs / 1000,
      };
    }),
  );
  app.post("/oauth/revoke", { onRequest: ownPagesOnly }, (request, reply) =>
    answering(reply, async () => {
      await oauth.revoke(required(formOf(request), "token"));
      return {};
    }),
  );
  app.get("/oauth/jwks.json", async () => ({ keys: await oauth.keys() }));
  app.get("/.well-known/oauth-authorization-server", async (request) => {
    const base = baseOf(request);
    return {
      issuer: base,
      authorization_endpoint: `${base}/oauth/authorize`,
      device_authorization_endpoint: `${base}/oauth/device_authorization`,
      token_endpoint: `${base}/oauth/token`,
      revocation_endpoint: `${base}/oauth/revoke`,
      jwks_uri: `${base}/oauth/jwks.json`,
      grant_types_supported: ["authorization_code", deviceGrant, "client_credentials", "password", "refresh_token"],
      response_types_supported: ["code"],
      code_challenge_methods_supported: ["S256"],
      authorization_response_iss_parameter_supported: true,
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
  if (kind === "authorization_code") {
    ofOurProgram(form);
    return oauth.byCode({
      code: required(form, "code"),
      verifier: required(form, "code_verifier"),
      redirectUri: required(form, "redirect_uri"),
    });
  }
  if (kind === deviceGrant) {
    ofOurProgram(form);
    const heard = await oauth.byDevice({ deviceCode: required(form, "device_code") });
    if (typeof heard !== "string") return heard;
    throw new OAuthError(heard, waits[heard]);
  }
  throw new OAuthError("unsupported_grant_type", "The grant type is none of those that are supported.");
}

/** Users are asked by Berth's own command line alone, which is a public client: it has no secret. */
function ofOurProgram(form: URLSearchParams): void {
  if (required(form, "client_id") !== "berth-cli")
    throw new OAuthError("invalid_client", "The client is not known; berth-cli is.");
}

const waits: Readonly<Record<DeviceWaits, string>> = {
  authorization_pending: "The user has not said anything yet.",
  slow_down: "The device asks too often.",
  access_denied: "The user refused it.",
  expired_token: "The code is not known: used or expired. Begin again.",
};

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
