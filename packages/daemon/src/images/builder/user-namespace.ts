import { chown, lstat, mkdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { BerthError } from "@berth/api";
import type { Host, RunOptions, RunResult } from "../../host/host.ts";

/** A user namespace with 65,536 ids in which a build is root, and on the host nobody. */
export interface UserNamespace extends AsyncDisposable {
  run(program: string, args: readonly string[], options: RunOptions): Promise<RunResult>;
  /** Makes a folder that belongs to the namespace's root. */
  makeFolder(path: string): Promise<void>;
  /** Copies a folder so that the namespace's root may read all of it; gives the path to use, which may be the original's. */
  copyTree(from: string, to: string, signal: AbortSignal): Promise<string>;
  /** Removes what was made inside, whoever owns it. */
  removeFolder(): Promise<void>;
}

const idCount = 65_536;
/** Where root takes the ids from: far above those of people, services and the usual subordinate ranges (login.defs: 100,000 to 600,100,000). */
const firstId = 0x7000_0000;

/** Opens a namespace for work in `folder`. Rejects with BerthError `host_program_failed`, saying what the host lacks. */
export async function openUserNamespace(host: Host, folder: string): Promise<UserNamespace> {
  const { uid } = await host.facts();
  return uid === 0 ? await openAsRoot(host, folder) : await openAsUser(host, folder);
}

/** Root needs no subordinate ids: it writes the maps of a namespace that a waiting process holds open. */
async function openAsRoot(host: Host, folder: string): Promise<UserNamespace> {
  await chown(folder, firstId, firstId);
  const holder = host.start("unshare", ["--user", "--mount", "--", "sleep", "infinity"], {
    timeoutMs: 24 * 60 * 60_000,
  });
  const ended = holder.done.then(
    () => {},
    () => {},
  );
  const close = async () => {
    holder.stdin.destroy();
    process.kill(holder.pid, "SIGKILL");
    await ended;
  };
  try {
    await untilOwnNamespace(holder.pid, ended);
    const map = `0 ${firstId} ${idCount}\n`;
    await writeFile(`/proc/${holder.pid}/uid_map`, map);
    await writeFile(`/proc/${holder.pid}/gid_map`, map);
  } catch (error) {
    await close();
    throw new BerthError("host_program_failed", "The kernel gives no user namespace for the build.", { cause: error });
  }
  const enter = ["--target", String(holder.pid), "--user", "--mount", "--setuid", "0", "--setgid", "0"];
  return {
    run: async (program, args, options) =>
      await host.run("nsenter", [...enter, `--wd=${options.cwd ?? folder}`, "--", program, ...args], {
        ...options,
        // Tells containers/storage and buildah that they are where they would otherwise bring themselves.
        env: { ...options.env, _CONTAINERS_USERNS_CONFIGURED: "done" },
      }),
    async makeFolder(path) {
      await mkdir(path, { mode: 0o700 });
      await chown(path, firstId, firstId);
    },
    async copyTree(from, to, signal) {
      await host.run("cp", ["--archive", "--reflink=auto", "--no-target-directory", "--", from, to], {
        signal,
        timeoutMs: 600_000,
      });
      await host.run("chown", ["--recursive", "--no-dereference", `${firstId}:${firstId}`, "--", to], { signal });
      return to;
    },
    removeFolder: async () => await rm(folder, { recursive: true, force: true }),
    [Symbol.asyncDispose]: close,
  };
}

/** An ordinary user has the ids that /etc/subuid and /etc/subgid give; buildah brings itself into their namespace. */
async function openAsUser(host: Host, folder: string): Promise<UserNamespace> {
  const { username, uid } = userInfo();
  for (const file of ["/etc/subuid", "/etc/subgid"]) {
    const text = await readFile(file, "utf8").catch(() => "");
    const enough = text.split("\n").some((line) => {
      const [owner, , count] = line.split(":");
      return (owner === username || owner === String(uid)) && Number(count) >= idCount;
    });
    if (!enough) {
      throw new BerthError(
        "host_program_failed",
        `${username} has no ${idCount} subordinate ids in ${file}, which a build needs. ` +
          `As root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username} (or another free range).`,
      );
    }
  }
  if (!(await host.find("newuidmap"))) {
    throw new BerthError(
      "host_program_failed",
      "newuidmap is not installed, which a build needs. As root: apt install uidmap.",
    );
  }
  return {
    run: async (program, args, options) => await host.run("buildah", ["unshare", "--", program, ...args], options),
    makeFolder: async (path) => void (await mkdir(path, { mode: 0o700 })),
    copyTree: async (from) => from,
    async removeFolder() {
      if (await lstat(folder).catch(() => undefined)) {
        await host.run("buildah", ["unshare", "--", "rm", "-rf", "--", folder], {
          timeoutMs: 600_000,
          env: { HOME: folder },
        });
      }
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

async function untilOwnNamespace(pid: number, ended: Promise<void>): Promise<void> {
  const own = await readLinkOf("self");
  let over = false;
  void ended.then(() => {
    over = true;
  });
  while ((await readLinkOf(String(pid))) === own) {
    if (over) throw new Error("unshare ended");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function readLinkOf(pid: string): Promise<string> {
  return await readlink(`/proc/${pid}/ns/user`);
}
