import { BerthError, type User, type UserReset } from "@berth/api";
import { newId } from "../core/ids.ts";
import { hashToken, makeToken } from "../identity/tokens.ts";
import type { Services } from "../server/services.ts";
import type { Queries, Store, Transaction } from "../store/store.ts";
import { deleteUser, findUser, insertPasswordCode, insertUser, listUsers, updateUser } from "../store/users.ts";

/** How long a code sets a password, in milliseconds: a day. */
const codeMs = 24 * 3_600_000;

/** Users, as the server asks for them. */
export function userServices(store: Store): Services["users"] {
  return {
    async list(query) {
      const { rows, nextCursor } = await listUsers(store.queries, query);
      return { items: rows, nextCursor };
    },
    get: (ref) => requireUser(store.queries, ref),
    create: ({ name, admin, roles }) =>
      store.transaction(async (tx) =>
        issueCode(tx, await insertUser(tx, { id: newId("user"), name, admin, roles, password: null })),
      ),
    change: (ref, changes) =>
      store.transaction(async (tx) => {
        const { id } = await requireUser(tx, ref);
        await updateUser(tx, id, changes);
        return requireUser(tx, id);
      }),
    reset: (ref) => store.transaction(async (tx) => issueCode(tx, await requireUser(tx, ref))),
    remove: (ref) =>
      store.transaction(async (tx) => {
        const user = await requireUser(tx, ref);
        await deleteUser(tx, user.id);
        return user;
      }),
  };
}

async function requireUser(queries: Queries, ref: string): Promise<User> {
  const user = await findUser(queries, ref);
  if (!user) throw new BerthError("not_found", `There is no user ${ref}.`);
  return user;
}

async function issueCode(tx: Transaction, user: User): Promise<UserReset> {
  const code = makeToken("code");
  const expiresAt = await insertPasswordCode(tx, user.id, hashToken(code), codeMs);
  return { user, code, expiresAt: new Date(expiresAt).toISOString() };
}
