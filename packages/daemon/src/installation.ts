import { randomBytes, randomInt } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { newId } from "./core/ids.ts";
import { keepNodeFile } from "./data-folder.ts";
import type { Host } from "./host/host.ts";
import { hashPassword } from "./identity/passwords.ts";
import { hashToken, looksLikeToken, makeToken, shownPrefix } from "./identity/tokens.ts";
import { nodeName } from "./nodes/describe-node.ts";
import { readSetting, writeSetting } from "./store/settings.ts";
import type { Store } from "./store/store.ts";
import { findSystemToken, findTokenByHash, insertToken, isRevoked, revokeToken } from "./store/tokens.ts";
import { findUser, insertUser } from "./store/users.ts";

/** Who this daemon is: the installation shares a store, the node is this machine's data folder. */
export interface Identity {
  readonly installationId: string;
  readonly nodeId: string;
  /** What the node is called: as its host was on the first run. */
  readonly nodeName: string;
}

/** Reads who this daemon is, or makes it up on the first run; `hostname` is the host's name now. */
export async function readIdentity(store: Store, host: Host, dataDir: string, hostname: string): Promise<Identity> {
  const installationId = await store.transaction(async (tx) => {
    const known = await readSetting(tx, "installation", z.string());
    if (known) return known;
    const made = randomBytes(8).toString("hex");
    await writeSetting(tx, "installation", made);
    return made;
  });
  const { nodeId, name } = await keepNodeFile(host, dataDir, { installationId, name: nodeName(hostname) });
  return { installationId, nodeId, nodeName: name };
}

/**
 * Keeps an admin token in `admin-token` (0600), where the local CLI finds it. It is made on the first run, and anew when it was revoked or its file is gone, whose
 * token is then revoked. One whose store was replaced is accepted again, since whoever can write the data folder could as well have written the store.
 */
export async function keepAdminToken(store: Store, host: Host, dataDir: string, nodeId: string): Promise<void> {
  const path = join(dataDir, "admin-token");
  const kept = (await host.files.readText(path))?.trim();
  const usable = kept !== undefined && looksLikeToken(kept) && !(await isRevoked(store.queries, hashToken(kept)));
  const token = usable ? kept : makeToken();
  const hash = hashToken(token);
  const name = `admin-of-${nodeId.replace(/^n-/, "")}`;
  await store.transaction(async (tx) => {
    if (await findTokenByHash(tx, hash)) return;
    const before = await findSystemToken(tx, name);
    if (before) await revokeToken(tx, before.id);
    const prefix = shownPrefix(token);
    const rights = { role: "admin", project: null, scopes: null, expiresAt: null } as const;
    await insertToken(tx, { id: newId("token"), name, hash, prefix, ...rights });
  });
  if (token !== kept) await host.files.writeAtomic(path, `${token}\n`, { mode: 0o600 });
}

/** The user that the first run makes. */
const firstAdmin = "admin";
const letters = "abcdefghijkmnpqrstuvwxyz23456789";

function makePassword(): string {
  const word = () => Array.from({ length: 5 }, () => letters[randomInt(letters.length)]).join("");
  return Array.from({ length: 4 }, word).join("-");
}

/**
 * Makes the first user, who administers the whole system, on the first run. His random password is in `initial-admin-password` (0600) until he has logged in with it
 * or set another.
 */
export async function keepFirstAdmin(store: Store, host: Host, dataDir: string): Promise<void> {
  const path = join(dataDir, "initial-admin-password");
  const kept = (await host.files.readText(path))?.trim();
  if (await readSetting(store.queries, "first-admin", z.string())) {
    // He may have come in by another node.
    if (kept && (await findUser(store.queries, firstAdmin))?.lastLoginAt !== null) await host.files.remove(path);
    return;
  }
  // Written before it is in force: one that was killed in between goes on with the same.
  const password = kept || makePassword();
  if (!kept) await host.files.writeAtomic(path, `${password}\n`, { mode: 0o600 });
  const hash = await hashPassword(password);
  const isMade = await store.transaction(async (tx) => {
    if (await readSetting(tx, "first-admin", z.string())) return false;
    const { id } = await insertUser(tx, {
      id: newId("user"),
      name: firstAdmin,
      admin: true,
      roles: {},
      password: hash,
    });
    await writeSetting(tx, "first-admin", id);
    return true;
  });
  if (!isMade) await host.files.remove(path);
}

/** Removes the first password once it has served. */
export async function dropFirstPassword(host: Host, dataDir: string, userName: string): Promise<void> {
  if (userName === firstAdmin) await host.files.remove(join(dataDir, "initial-admin-password"));
}
