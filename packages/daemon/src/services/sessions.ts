import { BerthError } from "@berth/api";
import { addressGroup, lockOutMs } from "../core/lock-out.ts";
import { whyWeak } from "../core/password-rules.ts";
import type { Caller } from "../identity/authorize.ts";
import { hashPassword, verifyPassword } from "../identity/passwords.ts";
import { hashToken, looksLikeToken, makeToken } from "../identity/tokens.ts";
import type { Services } from "../server/services.ts";
import { unlessDiskFull } from "../store/errors.ts";
import { lockResources } from "../store/operation-claims.ts";
import { defaultProject } from "../store/projects.ts";
import {
  clearFailures,
  countFailure,
  deleteSession,
  findSession,
  insertSession,
  readFailures,
  type Session,
  touchSession,
} from "../store/sessions.ts";
import type { Store } from "../store/store.ts";
import { findPasswordCode, findUser, readPassword, setPassword, takePasswordCode } from "../store/users.ts";

/** Logging in and out, as the server asks for it. `afterLogin` is called once somebody came in by the password of the user of that name, or set it. */
export function sessionServices(store: Store, afterLogin: (name: string) => Promise<void>): Services["sessions"] {
  /**
   * Checks a password. A try counts as a failure before it is looked at, so that many at once are no more than as many one after the other; only this account from this
   * address waits for it, so that nobody locks anybody else out.
   */
  const checkPassword = async (account: string, password: string, from: string): Promise<string> => {
    const address = addressGroup(from);
    await store.transaction(async (tx) => {
      await lockResources(tx, [`login:${account}:${address}`]);
      const { failures, agoMs } = await readFailures(tx, account, address);
      const waitMs = lockOutMs(failures) - agoMs;
      if (waitMs > 0) {
        const seconds = Math.ceil(waitMs / 1000);
        throw new BerthError("rate_limited", `${account} failed to log in too often from here.`, {
          retryAfterSeconds: seconds,
        });
      }
      await countFailure(tx, account, address);
    });
    const kept = await readPassword(store.queries, account);
    const isRight = await verifyPassword(password, kept?.password ?? null);
    if (!kept || !isRight) throw new BerthError("wrong_password", "There is no such user with this password.");
    await store.transaction((tx) => clearFailures(tx, account, address));
    return kept.id;
  };

  return {
    async find(hash) {
      const session = await findSession(store.queries, hash);
      if (!session) return undefined;
      await unlessDiskFull(touchSession(store.queries, session));
      return callerOf(session);
    },
    async begin({ user: name, password }, address) {
      const id = await checkPassword(name, password, address);
      const secret = makeToken("session");
      const endsAt = await store.transaction((tx) => insertSession(tx, id, hashToken(secret)));
      await afterLogin(name);
      const user = await findUser(store.queries, id);
      if (!user) throw new BerthError("wrong_password", "The user was deleted just now.");
      return { user, secret, endsAt };
    },
    end: (hash) => store.transaction((tx) => deleteSession(tx, hash)),
    async changePassword(caller, { current, password }, address) {
      const id = await checkPassword(caller.name, current, address);
      const kept = await hashNew(password, caller.name);
      await store.transaction((tx) => setPassword(tx, id, kept, caller.session));
      await afterLogin(caller.name);
    },
    async setPassword({ code, password }) {
      const hash = hashToken(code);
      const user = looksLikeToken(code, "code") ? await findPasswordCode(store.queries, hash) : undefined;
      if (!user) throw new BerthError("reset_expired", "The code is not known: mistyped, used or expired.");
      const kept = await hashNew(password, user.name);
      await store.transaction(async (tx) => {
        if (!(await takePasswordCode(tx, hash))) throw new BerthError("reset_expired", "The code was used just now.");
        await setPassword(tx, user.id, kept);
      });
      await afterLogin(user.name);
    },
  };
}

/** What is kept of a new password. Rejects with BerthError `weak_password`. */
async function hashNew(password: string, userName: string): Promise<string> {
  const reason = whyWeak(password, userName);
  if (reason !== undefined) throw new BerthError("weak_password", reason);
  return hashPassword(password);
}

function callerOf({ hash, userId, userName, admin, roles, expiresAt }: Session): Caller {
  const [first = null] = roles.keys();
  return {
    id: userId,
    name: userName,
    session: hash,
    admin,
    roles,
    project: admin || roles.has(defaultProject) ? null : first,
    scopes: null,
    expiresAt,
  };
}
