import { createHash } from "node:crypto";
import { BerthError } from "@berth/api";
import { type AccessTokens, accessTokenMs } from "../identity/access-tokens.ts";
import { type Caller, mayGrant } from "../identity/authorize.ts";
import { hashToken, looksLikeToken, makeToken } from "../identity/tokens.ts";
import { makeUserCode, readUserCode } from "../identity/user-code.ts";
import type { DeviceWaits, OAuthAnswer, Services } from "../server/services.ts";
import {
  type Authorized,
  askForDevice,
  decideDevice,
  deviceCodeMs,
  deviceIntervalMs,
  insertCode,
  insertDevice,
  takeCode,
} from "../store/authorizations.ts";
import { deleteGrantOf, exchangeRefreshToken, findGrant, insertGrant } from "../store/grants.ts";
import type { Store, Transaction } from "../store/store.ts";
import { findGoodToken, findTokenByHash } from "../store/tokens.ts";
import { findUser } from "../store/users.ts";
import { checkPassword } from "./check-password.ts";
import { callerOf } from "./tokens.ts";
import { callerOfUser } from "./user-caller.ts";

/** OAuth 2.0, as the server asks for it. `afterLogin` is called once somebody came in by the password of the user of that name. */
export function oauthServices(
  store: Store,
  accessTokens: AccessTokens,
  afterLogin: (name: string) => Promise<void>,
): Services["oauth"] {
  const answer = async (
    subject: string,
    grant: string | null,
    scopes: readonly string[] | null,
    refreshToken: string | null,
  ): Promise<OAuthAnswer> => ({
    accessToken: await accessTokens.issue({ subject, grant, scopes }),
    lifetimeMs: accessTokenMs,
    refreshToken,
    scopes,
  });

  /** Begins a grant of what turns out to be authorized; undefined when nothing is. */
  const begin = async (
    take: (tx: Transaction, grantId: string) => Promise<Authorized | undefined>,
  ): Promise<OAuthAnswer | undefined> => {
    const refreshToken = makeToken("refresh");
    const id = crypto.randomUUID();
    const authorized = await store.transaction(async (tx) => {
      const taken = await take(tx, id);
      if (taken) await insertGrant(tx, { id, ...taken, hash: hashToken(refreshToken) });
      return taken;
    });
    return authorized && answer(authorized.userId, id, authorized.scopes, refreshToken);
  };

  return {
    async find(accessToken) {
      const claims = await accessTokens.verify(accessToken);
      if (!claims) return undefined;
      const { subject, grant, scopes, expiresAt } = claims;
      // The access token is short so that a stolen one is; what was opened with it lasts as long as the login.
      const again = async () => {
        const caller = grant === null ? await ofToken(store, subject) : await ofGrant(store, grant);
        return caller?.id === subject ? { ...caller, scopes: scopes ?? caller.scopes } : undefined;
      };
      const caller = await again();
      return caller && { ...caller, expiresAt: Math.min(expiresAt, caller.expiresAt ?? expiresAt), again };
    },
    async byPassword({ user: name, password, scopes }, address) {
      const userId = await checkPassword(store, name, password, address);
      const refreshToken = makeToken("refresh");
      const id = crypto.randomUUID();
      const hash = hashToken(refreshToken);
      await store.transaction((tx) => insertGrant(tx, { id, userId, scopes, hash }));
      await afterLogin(name);
      return answer(userId, id, scopes, refreshToken);
    },
    async byClient({ clientId, secret, scopes }) {
      const token = looksLikeToken(secret) ? await findTokenByHash(store.queries, hashToken(secret)) : undefined;
      if (!token || (token.id !== clientId && token.name !== clientId))
        throw new BerthError("unauthenticated", "The client is not known, or its secret is another.");
      if (!mayGrant(token.scopes, scopes ?? token.scopes))
        throw new BerthError("forbidden", "The scopes go beyond those of the token.");
      return answer(token.id, null, scopes ?? token.scopes, null);
    },
    async byRefreshToken({ refreshToken }) {
      const next = makeToken("refresh");
      const exchange = looksLikeToken(refreshToken, "refresh")
        ? await store.transaction((tx) => exchangeRefreshToken(tx, hashToken(refreshToken), hashToken(next)))
        : ({ kind: "unknown" } as const);
      if (exchange.kind === "renewed") {
        const { id, userId, scopes } = exchange.grant;
        return answer(userId, id, scopes, next);
      }
      throw new BerthError(
        "unauthenticated",
        exchange.kind === "reused"
          ? "The refresh token was used before: somebody else may have it, so the login is ended. Log in again."
          : "The refresh token is not known: expired or revoked. Log in again.",
      );
    },
    async authorizeProgram({ id: userId }, { redirectUri, codeChallenge, scopes }) {
      const code = makeToken("authorization");
      const hash = hashToken(code);
      await store.transaction((tx) => insertCode(tx, { hash, userId, scopes, codeChallenge, redirectUri }));
      return code;
    },
    async byCode({ code, verifier, redirectUri }) {
      const codeChallenge = createHash("sha256").update(verifier).digest("base64url");
      const shown = { hash: hashToken(code), codeChallenge, redirectUri };
      const begun = await begin((tx, grantId) => takeCode(tx, shown, grantId));
      if (begun) return begun;
      throw new BerthError(
        "unauthenticated",
        "The code is not known: used, expired, or another program's. Log in again.",
      );
    },
    async beginDevice({ scopes }) {
      const deviceCode = makeToken("device");
      const userCode = makeUserCode();
      await store.transaction((tx) => insertDevice(tx, { hash: hashToken(deviceCode), userCode, scopes }));
      return { deviceCode, userCode, lifetimeMs: deviceCodeMs, intervalMs: deviceIntervalMs };
    },
    async authorizeDevice({ id: userId }, { userCode, allow }) {
      const decision = { userCode: readUserCode(userCode), userId, allow };
      if (!(await store.transaction((tx) => decideDevice(tx, decision))))
        throw new BerthError(
          "not_found",
          `No device waits with the code ${decision.userCode}: mistyped, used or expired.`,
        );
    },
    async byDevice({ deviceCode }) {
      let waits: DeviceWaits = "expired_token";
      const begun = await begin(async (tx, grantId) => {
        const heard = await askForDevice(tx, hashToken(deviceCode), grantId);
        if (heard.kind === "allowed") return heard.authorized;
        waits = deviceWords[heard.kind];
        return undefined;
      });
      return begun ?? waits;
    },
    revoke: (refreshToken) => store.transaction((tx) => deleteGrantOf(tx, hashToken(refreshToken))),
    keys: () => accessTokens.publicKeys(),
  };
}

const deviceWords = {
  pending: "authorization_pending",
  too_soon: "slow_down",
  refused: "access_denied",
  unknown: "expired_token",
} as const;

async function ofToken(store: Store, id: string): Promise<Caller | undefined> {
  const token = await findGoodToken(store.queries, id);
  return token && callerOf(token);
}

async function ofGrant(store: Store, id: string): Promise<Caller | undefined> {
  const grant = await findGrant(store.queries, id);
  const user = grant && (await findUser(store.queries, grant.userId));
  if (!user) return undefined;
  const known = { userId: user.id, userName: user.name, admin: user.admin, roles: new Map(Object.entries(user.roles)) };
  return callerOfUser(known, { session: null, scopes: grant.scopes, expiresAt: grant.expiresAt });
}
