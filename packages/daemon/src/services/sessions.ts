import { BerthError } from "@berth/api";
import { whyWeak } from "../core/password-rules.ts";
import { hashPassword } from "../identity/passwords.ts";
import { hashToken, looksLikeToken, makeToken } from "../identity/tokens.ts";
import type { Services } from "../server/services.ts";
import { unlessDiskFull } from "../store/errors.ts";
import { deleteSession, findSession, insertSession, touchSession } from "../store/sessions.ts";
import type { Store } from "../store/store.ts";
import { findPasswordCode, findUser, setPassword, takePasswordCode } from "../store/users.ts";
import { checkPassword } from "./check-password.ts";
import { callerOfUser } from "./user-caller.ts";

/** Logging in and out, as the server asks for it. `afterLogin` is called once somebody came in by the password of the user of that name, or set it. */
export function sessionServices(store: Store, afterLogin: (name: string) => Promise<void>): Services["sessions"] {
  return {
    async find(hash) {
      const session = await findSession(store.queries, hash);
      if (!session) return undefined;
      await unlessDiskFull(touchSession(store.queries, session));
      return callerOfUser(session, { session: hash, scopes: null, expiresAt: session.expiresAt });
    },
    async begin({ user: name, password }, address) {
      const id = await checkPassword(store, name, password, address);
      const secret = makeToken("session");
      const endsAt = await store.transaction((tx) => insertSession(tx, id, hashToken(secret)));
      await afterLogin(name);
      const user = await findUser(store.queries, id);
      if (!user) throw new BerthError("wrong_password", "The user was deleted just now.");
      return { user, secret, endsAt };
    },
    end: (hash) => store.transaction((tx) => deleteSession(tx, hash)),
    async changePassword(caller, { current, password }, address) {
      const id = await checkPassword(store, caller.name, current, address);
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
