import { BerthError } from "@berth/api";
import { type AccessTokens, accessTokenMs } from "../identity/access-tokens.ts";
import { type Caller, mayGrant } from "../identity/authorize.ts";
import { hashToken, looksLikeToken, makeToken } from "../identity/tokens.ts";
import type { OAuthAnswer, Services } from "../server/services.ts";
import { deleteGrantOf, exchangeRefreshToken, findGrant, insertGrant } from "../store/grants.ts";
import type { Store } from "../store/store.ts";
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
    revoke: (refreshToken) => store.transaction((tx) => deleteGrantOf(tx, hashToken(refreshToken))),
    keys: () => accessTokens.publicKeys(),
  };
}

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
