import { spawn } from "node:child_process";
import { once } from "node:events";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { z } from "zod";
import type { ProcessIdentity } from "./host.ts";
import { identifyProcess } from "./processes.ts";

/** A folder held by this process alone; released when closed or when the process ends, however it ends. */
export interface FolderLock {
  release(): Promise<void>;
}

const Holder = z.object({ pid: z.number(), startTicks: z.string(), bootId: z.string() });

/**
 * Takes the lock at `path`, or resolves to undefined when another process holds it. The lock is flock(2)'s: it belongs to the open file,
 * so flock(1) can take it for us through the inherited descriptor, and the kernel frees it with our last copy, even after kill -9. The
 * file says who took it last.
 */
export async function lockFolder(path: string): Promise<FolderLock | undefined> {
  const file: FileHandle = await open(path, "a", 0o600);
  const child = spawn("flock", ["--nonblock", "--exclusive", "3"], { stdio: ["ignore", "ignore", "ignore", file.fd] });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code === 0) {
    await file.truncate();
    await file.write(JSON.stringify(identifyProcess(process.pid)));
    return { release: () => file.close() };
  }
  await file.close();
  if (code === 1) return undefined;
  throw new Error(`flock ended with exit code ${code}`);
}

/** Who took the lock at `path` last; undefined when nobody ever did. Whether that process still runs is another question. */
export async function lastHolder(path: string): Promise<ProcessIdentity | undefined> {
  try {
    return Holder.parse(JSON.parse(await readFile(path, "utf8")));
  } catch {
    return undefined;
  }
}
