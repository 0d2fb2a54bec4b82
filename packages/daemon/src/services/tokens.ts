import { BerthError, type Token } from "@berth/api";
import { newId } from "../core/ids.ts";
import { type Caller, mayGrant } from "../identity/authorize.ts";
import { hashToken, makeToken, shownPrefix } from "../identity/tokens.ts";
import type { Services } from "../server/services.ts";
import { unlessDiskFull } from "../store/errors.ts";
import type { Queries, Store } from "../store/store.ts";
import {
  findToken,
  findTokenByHash,
  insertToken,
  listTokens,
  revokeToken,
  tokenTopic,
  touchToken,
} from "../store/tokens.ts";

/** Tokens, as the server asks for them. */
export function tokenServices(store: Store): Services["tokens"] {
  return {
    async find(hash) {
      const token = await findTokenByHash(store.queries, hash);
      if (!token) return undefined;
      await unlessDiskFull(touchToken(store.queries, token));
      return callerOf(token);
    },
    onLess: (listener) => store.wake.onWake(tokenTopic, listener),
    async list(project, query) {
      const { rows, nextCursor } = await listTokens(store.queries, { ...query, project });
      return { items: rows, nextCursor };
    },
    get: (project, ref) => requireToken(store.queries, project, ref),
    async create({ caller, project }, { name, role, scopes = null, system, expiresAt = null }) {
      if (system && !caller.admin)
        throw new BerthError("forbidden", "Only who administers the whole system may let others.");
      if (!mayGrant(caller.scopes, scopes))
        throw new BerthError("forbidden", "The new token's scopes go beyond those of yours.");
      const ends = expiresAt === null ? null : Date.parse(expiresAt);
      if (ends !== null && ends <= (await store.now()))
        throw new BerthError("invalid_request", "body.expiresAt: must be in the future");
      const secret = makeToken();
      const token = await store.transaction((tx) =>
        insertToken(tx, {
          id: newId("token"),
          name,
          hash: hashToken(secret),
          prefix: shownPrefix(secret),
          role: system ? "admin" : role,
          project: system ? null : project,
          scopes,
          expiresAt: ends,
        }),
      );
      return { token, secret };
    },
    revoke: (project, ref) =>
      store.transaction(async (tx) => {
        const token = await requireToken(tx, project, ref);
        await revokeToken(tx, token.id);
        return token;
      }),
  };
}

async function requireToken(queries: Queries, project: string | undefined, ref: string): Promise<Token> {
  const token = await findToken(queries, project, ref);
  if (!token) throw new BerthError("not_found", `There is no token ${ref}.`);
  return token;
}

/** Who a token stands for. */
export function callerOf({ id, name, project, role, scopes, expiresAt }: Token): Caller {
  return {
    id,
    name,
    session: null,
    admin: project === null,
    roles: new Map(project === null ? [] : [[project, role]]),
    project,
    scopes,
    expiresAt: expiresAt === null ? null : Date.parse(expiresAt),
  };
}
