import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "./errors.ts";
import { findLocalBerthd } from "./local-berthd.ts";
import { type Login, readLogin, withLogin, writeLogin } from "./login-file.ts";
import type { Surroundings } from "./surroundings.ts";

/** Where berthd is and what to show it. */
export interface Settings {
  readonly url: string;
  /** Empty when none is known. A function tells it for the next request, and throws when the one it is meant for is not there. */
  readonly token: string | (() => string);
  /** Has the token made new when it is about to end; called before each request. */
  readonly renew?: (() => Promise<void>) | undefined;
  /** The project of what is asked for; the token's own when undefined. */
  readonly project?: string | undefined;
}

/** What the settings file may hold. */
interface Written {
  readonly url?: string;
  readonly token?: string;
}

const defaultUrl = "http://127.0.0.1:8642";

type Outside = Pick<Surroundings, "env" | "home" | "uid">;

/** Where berthd keeps its data when nobody says otherwise. */
export function dataFolder({ env, home, uid }: Outside): string {
  if (env.BERTH_DATA_DIR) return env.BERTH_DATA_DIR;
  return uid === 0 ? "/var/lib/berth" : join(env.XDG_DATA_HOME || join(home, ".local/share"), "berth");
}

/** The settings file of the client. */
function settingsFile(outside: Pick<Outside, "env" | "home">): string {
  return join(configFolder(outside), "config.json");
}

/** Where `berth login` keeps its login. */
export function loginFile(outside: Pick<Outside, "env" | "home">): string {
  return join(configFolder(outside), "login.json");
}

function configFolder({ env, home }: Pick<Outside, "env" | "home">): string {
  return join(env.XDG_CONFIG_HOME || join(home, ".config"), "berth");
}

/**
 * Finds berthd: BERTH_URL and BERTH_TOKEN, else where somebody has logged in, else the settings file, else the daemon of this machine by its data folder. A token is only
 * ever sent to the address it belongs to: the login's to the login's, the file's to the file's, the local daemon's to the local daemon's.
 */
export async function readSettings(outside: Outside): Promise<Settings> {
  const found = await findBerthd(outside);
  return outside.env.BERTH_PROJECT ? { ...found, project: outside.env.BERTH_PROJECT } : found;
}

async function findBerthd(outside: Outside): Promise<Settings> {
  const file = await readSettingsFile(settingsFile(outside));
  const local = findLocalBerthd(dataFolder(outside));
  const login = outside.env.BERTH_TOKEN ? undefined : await readLogin(loginFile(outside));
  const url = trim(outside.env.BERTH_URL || login?.url || file.url || local?.url || defaultUrl);
  if (!isUrl(url)) throw new UserError(`BERTH_URL must look like ${defaultUrl}, not "${url}".`);
  if (outside.env.BERTH_TOKEN) return { url, token: outside.env.BERTH_TOKEN };
  if (login?.url === url) return { url, ...renewing(loginFile(outside), login) };
  if (file.token && trim(file.url ?? local?.url ?? defaultUrl) === url) return { url, token: file.token };
  if (local && (local.url ?? defaultUrl) === url) return { url, token: () => local.token(url) };
  return { url, token: "" };
}

/** An access token of a login is renewed this long before it ends, in milliseconds. */
const renewMs = 60_000;

/** The access token of a login, which is renewed in time by whichever process comes first. */
function renewing(path: string, first: Login): Pick<Settings, "token" | "renew"> {
  let login = first;
  const isFresh = () => login.expiresAt - Date.now() > renewMs;
  const renew = () =>
    withLogin(path, async () => {
      const kept = await readLogin(path);
      if (kept?.url !== first.url) throw new UserError("The login has ended meanwhile.", "Log in again: berth login");
      login = kept;
      if (isFresh()) return;
      const { refresh } = await import("./log-in.ts");
      login = await refresh(kept);
      await writeLogin(path, login);
    });
  let renewal: Promise<void> | undefined;
  return {
    token: () => login.accessToken,
    async renew() {
      if (isFresh()) return;
      renewal ??= renew().finally(() => {
        renewal = undefined;
      });
      await renewal;
    },
  };
}

/** A berthd's address as somebody wrote it. Throws a SyntaxError for what is none. */
export function readUrl(text: string): string {
  const url = trim(text);
  if (!isUrl(url)) throw new SyntaxError(`must look like ${defaultUrl} or https://berth.example`);
  return url;
}

function isUrl(text: string): boolean {
  return /^https?:\/\/[^/]/.test(text) && URL.canParse(text);
}

function trim(url: string): string {
  return url.replace(/\/+$/, "");
}

async function readSettingsFile(path: string): Promise<Written> {
  const text = await readOrNothing(path);
  if (text === undefined) return {};
  const value = parse(text);
  if (typeof value !== "object" || value === null)
    throw new UserError(`${path} must hold a JSON object: {"url": "…", "token": "…"}.`);
  const { url, token } = value as Partial<Record<keyof Written, unknown>>;
  for (const [name, one] of Object.entries({ url, token })) {
    if (one !== undefined && typeof one !== "string") throw new UserError(`In ${path}, "${name}" must be a text.`);
  }
  if (token !== undefined && ((await stat(path)).mode & 0o077) !== 0) {
    throw new UserError(`${path} holds a token and others can read it.`, `Run: chmod 600 ${path}`);
  }
  return {
    ...(url === undefined ? {} : { url: url as string }),
    ...(token === undefined ? {} : { token: token as string }),
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A file's text; undefined when it is not there, or not for us to read. */
async function readOrNothing(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "EACCES") return undefined;
    throw error;
  }
}
