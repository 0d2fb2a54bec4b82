import { randomBytes } from "node:crypto";
import { type BigIntStats, closeSync, constants, createReadStream, createWriteStream, openSync } from "node:fs";
import {
  chmod,
  type FileHandle,
  lchown,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  watch,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { FileFacts, HostFiles, OpenFile } from "./host.ts";

const defaultMaxBytes = 16 * 1024 * 1024;

/** The files of the machine berthd runs on. */
export const localFiles: HostFiles = {
  exists: async (path) => (await orUndefined(lstat(path))) !== undefined,

  async readText(path, maxBytes = defaultMaxBytes) {
    const file = await orUndefined(open(path, constants.O_RDONLY | constants.O_NONBLOCK));
    if (!file) return undefined;
    try {
      return await readAtMost(file, path, maxBytes);
    } finally {
      await file.close();
    }
  },

  async writeAtomic(path, content, { mode = 0o600, uid, gid, passing = false } = {}) {
    const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}`);
    try {
      const file = await open(temporary, "wx", mode);
      try {
        await file.writeFile(content);
        if (uid !== undefined || gid !== undefined) await file.chown(uid ?? -1, gid ?? -1);
        await file.chmod(mode);
        if (!passing) await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    if (!passing) await syncPath(dirname(path));
  },

  async makeDirectory(path, { mode = 0o755, uid, gid } = {}) {
    await mkdir(path, { recursive: true, mode });
    if (!(await lstat(path)).isDirectory()) throw new Error(`${path} is a link, not a folder`);
    if (uid !== undefined || gid !== undefined) await lchown(path, uid ?? -1, gid ?? -1);
    await chmod(path, mode);
  },

  remove: (path) => rm(path, { recursive: true, force: true }),
  rename,
  async renameSynced(from, to) {
    await syncAll(from);
    await rename(from, to);
    await syncPath(dirname(to));
  },
  list: async (path) => ((await orUndefined(readdir(path))) ?? []).sort(),
  size: async (path) => (await orUndefined(stat(path)))?.size,
  async usedBytes(path) {
    const facts = await orUndefined(lstat(path));
    if (!facts) return 0;
    const within = facts.isDirectory() ? await localFiles.list(path) : [];
    const parts = await Promise.all(within.map((name) => localFiles.usedBytes(join(path, name))));
    return parts.reduce((sum, bytes) => sum + bytes, facts.blocks * 512);
  },
  async identity(path) {
    const facts = await orUndefined(stat(path, { bigint: true }));
    return facts && `${facts.dev}-${facts.ino}-${facts.birthtimeNs}`;
  },
  openAmong,
  owner: async (path) => (await orUndefined(lstat(path)))?.uid,

  async facts(path) {
    const found = await orUndefined(lstat(path, { bigint: true }));
    return found && toFacts(found);
  },

  link,
  sync: syncPath,

  async readHead(path, bytes) {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
    const file = await orUndefined(open(path, flags)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ELOOP") return undefined;
      throw error;
    });
    if (!file) return undefined;
    try {
      if (!(await file.stat()).isFile()) return undefined;
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(bytes), { position: 0 });
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  },

  chown: lchown,
  chmod,

  readStream(path, options = {}) {
    return createReadStream(path, options);
  },

  writeStream(path, { mode = 0o600 } = {}) {
    return createWriteStream(path, { mode });
  },

  async freeBytes(path) {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  },

  // Opened in the same breath: a path through /proc may stand for another file a moment later.
  async openDescriptor(path, mode = "read") {
    return openSync(path, mode === "read" ? constants.O_RDONLY : constants.O_RDWR);
  },
  async closeDescriptor(fd) {
    closeSync(fd);
  },
  async makeSparse(path, bytes, { mode, uid, gid }) {
    const file = await open(path, "wx", mode);
    try {
      await file.truncate(bytes);
      if (uid !== undefined || gid !== undefined) await file.chown(uid ?? -1, gid ?? -1);
      await file.chmod(mode);
    } finally {
      await file.close();
    }
  },

  async openUntrusted(folder, name) {
    const path = join(await realpath(folder), name);
    const file = await orUndefined(open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW));
    if (!file) return undefined;
    try {
      // What was really opened, seen after the fact: nobody can change it any more. Its own name may have changed meanwhile.
      const [real, facts] = await Promise.all([readlink(`/proc/self/fd/${file.fd}`), file.stat({ bigint: true })]);
      const plain = facts.isFile() && facts.nlink <= 1n && dirname(real) === dirname(path);
      if (!plain) throw new Error(`${path} is not a plain file at that place`);
      return openFile(file, `${facts.dev}:${facts.ino}`);
    } catch (error) {
      await file.close();
      throw error;
    }
  },

  async *watch(path, signal) {
    try {
      for await (const _ of watch(path, { signal })) yield;
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  },
};

function openFile(file: FileHandle, id: string): OpenFile {
  return {
    id,
    async read(position) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(64 * 1024), { position });
      return buffer.subarray(0, bytesRead);
    },
    close: () => file.close(),
  };
}

/** Reads a whole file of a size that may not be known (as in /proc); more than `maxBytes` is an error. */
async function readAtMost(file: FileHandle, path: string, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let total = 0;
  for (;;) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(64 * 1024));
    if (bytesRead === 0) return Buffer.concat(chunks).toString("utf8");
    total += bytesRead;
    if (total > maxBytes) throw new Error(`${path} holds more than ${maxBytes} bytes`);
    chunks.push(buffer.subarray(0, bytesRead));
  }
}

/** Looks through the descriptors of all processes (proc(5), /proc/PID/fd). */
async function openAmong(ids: ReadonlySet<string>): Promise<ReadonlySet<string>> {
  const open = new Set<string>();
  if (ids.size === 0) return open;
  for (const pid of await readdir("/proc")) {
    if (!/^[0-9]+$/.test(pid)) continue;
    const folder = `/proc/${pid}/fd`;
    for (const fd of (await orUnseen(readdir(folder))) ?? []) {
      const facts = await orUnseen(stat(join(folder, fd), { bigint: true }));
      const id = facts && `${facts.dev}:${facts.ino}`;
      if (id && ids.has(id)) open.add(id);
    }
  }
  return open;
}

/** What is asked of a process, or undefined when it, or what it had, is gone by now, or may not be looked at. */
async function orUnseen<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (["ENOENT", "ESRCH", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

async function syncAll(path: string): Promise<void> {
  const names = (await lstat(path)).isDirectory() ? await readdir(path) : [];
  for (const name of names) await syncAll(join(path, name));
  await syncPath(path);
}

/** A rename is durable once its folder is synced (fsync(2)). */
async function syncPath(path: string): Promise<void> {
  const opened = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    await opened.sync();
  } finally {
    await opened.close();
  }
}

const bytesPerBlock = 512;

function toFacts(found: BigIntStats): FileFacts {
  const { dev, ino, size, mtimeNs, ctimeNs } = found;
  return {
    isPlain: found.isFile(),
    uid: Number(found.uid),
    sizeBytes: Number(size),
    usedBytes: Number(found.blocks) * bytesPerBlock,
    names: Number(found.nlink),
    id: `${dev}:${ino}`,
    stamp: `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`,
  };
}

/** What a file system call gives, or undefined when there is nothing at that path. */
async function orUndefined<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}
