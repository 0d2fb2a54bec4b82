import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { UserError } from "./errors.ts";

/** Who has logged in with `berth login`, and where. */
export interface Login {
  readonly url: string;
  readonly refreshToken: string;
  readonly accessToken: string;
  /** When the access token ends: milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** The login kept at `path`; undefined when there is none. */
export async function readLogin(path: string): Promise<Login | undefined> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR" || error.code === "EACCES") return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as Login;
  } catch {
    throw new UserError(`${path} is damaged.`, "Log in again: berth login");
  }
}

/** Keeps a login, for its owner's eyes alone; whoever reads meanwhile has the one before or this one. */
export async function writeLogin(path: string, login: Login): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const half = `${path}.${process.pid}`;
  await writeFile(half, `${JSON.stringify(login)}\n`, { mode: 0o600 });
  await rename(half, path);
}

export async function forgetLogin(path: string): Promise<void> {
  await rm(path, { force: true });
}

/**
 * Runs `work` while no other process does so with the login at `path`: a refresh token that two show ends the login. The lock is flock(2)'s, which the kernel frees with
 * our last descriptor however we end; flock(1) takes it through the one that it inherits.
 */
export async function withLogin<T>(path: string, work: () => Promise<T>): Promise<T> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await using file = await open(`${path}.lock`, "a", 0o600);
  const child = spawn("flock", ["--exclusive", "--timeout", "60", "3"], {
    stdio: ["ignore", "ignore", "ignore", file.fd],
  });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0) throw new UserError("Another berth has been renewing the login for a minute.", "Try again.");
  return await work();
}
