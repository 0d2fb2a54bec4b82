import { BerthError } from "@berth/api";
import { addressGroup, lockOutMs } from "../core/lock-out.ts";
import { verifyPassword } from "../identity/passwords.ts";
import { lockResources } from "../store/operation-claims.ts";
import { clearFailures, countFailure, readFailures } from "../store/sessions.ts";
import type { Store } from "../store/store.ts";
import { readPassword } from "../store/users.ts";

/**
 * Checks a password and resolves with its user's id. A try counts as a failure before it is looked at, so that many at once are no more than as many one after the other; only
 * this account from this address waits for it, so that nobody locks anybody else out. Rejects with BerthError `wrong_password` or `rate_limited`.
 */
export async function checkPassword(store: Store, account: string, password: string, from: string): Promise<string> {
  const address = addressGroup(from);
  await store.transaction(async (tx) => {
    await lockResources(tx, [`login:${account}:${address}`]);
    const { failures, agoMs } = await readFailures(tx, account, address);
    const waitMs = lockOutMs(failures) - agoMs;
    if (waitMs > 0) {
      const retryAfterSeconds = Math.ceil(waitMs / 1000);
      throw new BerthError("rate_limited", `${account} failed to log in too often from here.`, { retryAfterSeconds });
    }
    await countFailure(tx, account, address);
  });
  const kept = await readPassword(store.queries, account);
  const isRight = await verifyPassword(password, kept?.password ?? null);
  if (!kept || !isRight) throw new BerthError("wrong_password", "There is no such user with this password.");
  await store.transaction((tx) => clearFailures(tx, account, address));
  return kept.id;
}
