import { lstat, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { ConfigError } from "./config.ts";
import { newId } from "./core/ids.ts";
import type { Host, HostFacts } from "./host/host.ts";
import { type FolderLock, lockFolder } from "./host/lock.ts";

/** Everything that berthd, `npm start` and its administrator put into the data folder (docs/on-disk.md). The last two tell that it is one, so they go last. */
export const dataFolderNames = [
  ...["instances", "templates", "archives", "snapshots", "fake", "probe", "network", "artifacts", "layers"],
  ...["blobs", "kit", "tmp"],
  ...[
    "berth.db",
    "berth.db-wal",
    "berth.db-shm",
    "accelerator.json",
    "admin-token",
    "initial-admin-password",
    "listen",
    "berthd.log",
    "berthd.log.1",
    "berthd.env",
  ],
  ...["node.json", "lock"],
] as const;

/** The mode of the data folder: as root, the users of guests and builds must pass through to reach their own folders, and the artifacts. */
export function dataFolderMode({ uid }: HostFacts): number {
  return uid === 0 ? 0o711 : 0o700;
}

/** Makes the data folder if need be and takes it for this process alone. Rejects with a ConfigError when that cannot be. */
export async function takeDataFolder(host: Host, facts: HostFacts, dataDir: string): Promise<FolderLock> {
  await requireNoLink(dataDir);
  await makeFolder(host, dataDir, dataFolderMode(facts));
  if (facts.uid === 0) await requirePassage(dataDir);
  const lock = await lockFolder(join(dataDir, "lock"));
  if (lock) return lock;
  throw new ConfigError(`Another berthd works in ${dataDir}. Stop it first, or set BERTH_DATA_DIR to another folder.`);
}

/** Why a folder cannot be made, by the system's own name for it. */
const whyNoFolder: Readonly<Record<string, string>> = {
  EEXIST: "it is no folder",
  ENOTDIR: "what is on the way to it is no folder",
  EACCES: "this user may not",
  EPERM: "this user may not",
  EROFS: "its file system can only be read",
};

async function makeFolder(host: Host, dataDir: string, mode: number): Promise<void> {
  try {
    await host.files.makeDirectory(dataDir, { mode });
  } catch (error) {
    const why = whyNoFolder[(error as NodeJS.ErrnoException).code ?? ""];
    if (!why) throw error;
    throw new ConfigError(`${dataDir} cannot be made or opened: ${why}. Set BERTH_DATA_DIR to another folder.`);
  }
}

/** QEMU is told paths as they are, and folders are made and removed by their own names. */
export async function requireNoLink(dataDir: string): Promise<void> {
  const facts = await lstat(dataDir).catch(() => undefined);
  if (facts?.isSymbolicLink())
    throw new ConfigError(`${dataDir} is a link. Set BERTH_DATA_DIR to the folder it leads to.`);
}

/** As root each VM runs as a user of its own, who has to come by every folder on the way to its disk. */
async function requirePassage(dataDir: string): Promise<void> {
  for (let folder = dirname(dataDir); folder !== "/"; folder = dirname(folder)) {
    if ((await stat(folder)).mode & 0o001) continue;
    throw new ConfigError(
      `${dataDir} lies in ${folder}, which only its owner may pass through, and VMs run as users of their own. Set BERTH_DATA_DIR to a folder elsewhere, or run: chmod o+x ${folder}`,
    );
  }
}

/** What `node.json` says: which node this folder is, what it is called, and of which installation it is. */
export const NodeFile = z.object({
  nodeId: z.string(),
  /** Begins the names of its locations; null in files older than names. */
  name: z.string().nullable().default(null),
  installationId: z.string().nullable().default(null),
});

/** Which node a data folder is; undefined when it is none yet. */
export async function readNodeFile(host: Host, dataDir: string): Promise<z.infer<typeof NodeFile> | undefined> {
  const text = await host.files.readText(join(dataDir, "node.json"));
  return text === undefined ? undefined : NodeFile.parse(JSON.parse(text));
}

/**
 * The folder's node, which is made up on the first run. It keeps its first name, whatever its host is called later, since instances are known by locations that begin
 * with it. The installation is written beside it, so that it is known without the store.
 */
export async function keepNodeFile(
  host: Host,
  dataDir: string,
  now: { readonly installationId: string; readonly name: string },
): Promise<{ readonly nodeId: string; readonly name: string }> {
  const known = await readNodeFile(host, dataDir);
  const node = { nodeId: known?.nodeId ?? newId("node"), name: known?.name ?? now.name };
  if (known?.name !== node.name || known.installationId !== now.installationId) {
    const text = `${JSON.stringify({ ...node, installationId: now.installationId })}\n`;
    await host.files.writeAtomic(join(dataDir, "node.json"), text, { mode: 0o600 });
  }
  return node;
}
