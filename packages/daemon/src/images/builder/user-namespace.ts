import { chown, mkdir, readFile, readlink, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { BerthError } from "@berth/api";
import type { Host, RunOptions, RunResult } from "../../host/host.ts";

/**
 * Namespaces for one build: in them it is root of 65,536 ids, outside it is nobody. When they close, or berthd dies, every process in them
 * is killed by the kernel.
 */
export interface UserNamespace extends AsyncDisposable {
  run(program: string, args: readonly string[], options: RunOptions): Promise<RunResult>;
  /** Makes a folder that belongs to the namespace's root. */
  makeFolder(path: string): Promise<void>;
  /** Makes a folder's files readable for the namespace's root; gives the path to use: a copy at `to`, or the original. */
  share(from: string, to: string, signal: AbortSignal): Promise<string>;
}

/** Who the ids are, outside. */
interface Ids {
  /** What the namespace's root is on the host. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Writes the maps of the namespaces that this process holds. */
  map(pid: number): Promise<void>;
}

const idCount = 65_536;
/** Where root takes the ids from: far above those of people, services and the usual subordinate ranges (login.defs: 100,000 to 600,100,000). */
const firstId = 0x7000_0000;

/** Opens namespaces for work in `folder`. Rejects with BerthError `host_program_failed`, saying what the host lacks. */
export async function openUserNamespace(host: Host, folder: string): Promise<UserNamespace> {
  const { uid, gid } = await host.facts();
  const isRoot = uid === 0;
  const ids = isRoot ? idsOfRoot() : await subordinateIds(host, { uid, gid });
  if (isRoot) await chown(folder, ids.owner.uid, ids.owner.gid);

  // The first process of the process namespace ends when its input does, and all others with it.
  const holder = host.start("unshare", ["--user", "--mount", "--pid", "--fork", "--", "cat"], {
    timeoutMs: 24 * 60 * 60_000,
  });
  holder.stdin.on("error", () => {});
  holder.stdout.resume();
  const ended = holder.done.then(
    () => true,
    () => true,
  );
  const close = async () => {
    holder.stdin.end();
    await ended;
  };
  const of = (kind: string) => `/proc/${holder.pid}/ns/${kind}`;
  const enter = [
    `--user=${of("user")}`,
    `--mount=${of("mnt")}`,
    `--pid=${of("pid_for_children")}`,
    "--setuid",
    "0",
    "--setgid",
    "0",
  ];
  const run: UserNamespace["run"] = async (program, args, options) =>
    await host.run("nsenter", [...enter, `--wd=${options.cwd ?? folder}`, "--", program, ...args], {
      ...options,
      // Tells containers/storage and buildah that they are where they would otherwise bring themselves.
      env: { ...options.env, _CONTAINERS_USERNS_CONFIGURED: "done" },
    });
  try {
    await untilThere(of("pid_for_children"), ended);
    await ids.map(holder.pid);
    await run("mount", ["-t", "proc", "proc", "/proc"], {});
  } catch (error) {
    await close();
    throw new BerthError(
      "host_program_failed",
      `The kernel gives no namespaces for the build: ${error instanceof Error ? error.message : ""}`,
      {
        cause: error,
      },
    );
  }
  return {
    run,
    async makeFolder(path) {
      await mkdir(path, { mode: 0o700 });
      if (isRoot) await chown(path, ids.owner.uid, ids.owner.gid);
    },
    async share(from, to, signal) {
      // To an ordinary user's namespace its own files are root's.
      if (!isRoot) return from;
      const owner = `${ids.owner.uid}:${ids.owner.gid}`;
      const options = { signal, timeoutMs: 10 * 60_000 };
      await host.run("cp", ["--archive", "--reflink=auto", "--no-target-directory", "--", from, to], options);
      await host.run("chown", ["--recursive", "--no-dereference", owner, "--", to], options);
      return to;
    },
    [Symbol.asyncDispose]: close,
  };
}

/** Root needs no subordinate ids: it writes the maps itself. */
function idsOfRoot(): Ids {
  return {
    owner: { uid: firstId, gid: firstId },
    async map(pid) {
      for (const file of ["uid_map", "gid_map"]) await writeFile(`/proc/${pid}/${file}`, `0 ${firstId} ${idCount}\n`);
    },
  };
}

/** An ordinary user has the ids that /etc/subuid and /etc/subgid give (subuid(5)), with itself as root. */
async function subordinateIds(host: Host, owner: { uid: number; gid: number }): Promise<Ids> {
  const { username } = userInfo();
  const rangeIn = async (file: string): Promise<number> => {
    const text = await readFile(file, "utf8").catch(() => "");
    for (const line of text.split("\n")) {
      const [name, first, count] = line.split(":");
      if ((name === username || name === String(owner.uid)) && Number(count) >= idCount) return Number(first);
    }
    throw new BerthError(
      "host_program_failed",
      `${username} has no ${idCount} subordinate ids in ${file}, which a build needs. ` +
        `As root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username} (or another free range).`,
    );
  };
  const [firstUid, firstGid] = [await rangeIn("/etc/subuid"), await rangeIn("/etc/subgid")];
  if (!(await host.find("newuidmap"))) {
    throw new BerthError(
      "host_program_failed",
      "newuidmap is not installed, which a build needs. As root: apt install uidmap.",
    );
  }
  return {
    owner,
    async map(pid) {
      const others = (first: number) => ["1", String(first), String(idCount - 1)];
      await host.run("newuidmap", [String(pid), "0", String(owner.uid), "1", ...others(firstUid)]);
      await host.run("newgidmap", [String(pid), "0", String(owner.gid), "1", ...others(firstGid)]);
    },
  };
}

/** Resolves once the holder is in its namespaces: this link is there, and another than ours, when the first process in them has begun. */
async function untilThere(link: string, ended: Promise<boolean>): Promise<void> {
  const own = await readlink("/proc/self/ns/pid_for_children");
  const nextTurn = () => new Promise<false>((resolve) => setImmediate(() => resolve(false)));
  while ((await readlink(link).catch(() => own)) === own) {
    if (await Promise.race([ended, nextTurn()])) throw new Error("unshare ended");
  }
}
