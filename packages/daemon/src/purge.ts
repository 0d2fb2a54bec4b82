import { rmdir } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "./config.ts";
import { dataFolderNames, readNodeFile, requireNoLink } from "./data-folder.ts";
import { drivers } from "./drivers/index.ts";
import type { Host, HostFacts } from "./host/host.ts";
import { localHost } from "./host/local.ts";
import { type FolderLock, lastHolder, lockFolder } from "./host/lock.ts";
import { createImages } from "./images/images.ts";
import { joinMachines } from "./wire-node.ts";

/** How long a berthd may take to end once it was asked to. */
const stopTimeoutMs = 30_000;

/**
 * `berthd purge`: stops the berthd of a data folder, destroys every machine of its installation on this node, takes its rules away and removes the folder.
 * Needs no store, so a broken one does not stop it; the same again finishes what was begun, or finds nothing. Rejects with a ConfigError for a folder
 * that is not a data folder, or another user's.
 */
export async function purge(dataDir: string, say: (line: string) => void): Promise<void> {
  const host = localHost();
  const facts = await host.facts();
  if (!(await host.files.exists(dataDir))) return say(`There is nothing at ${dataDir}.`);
  if ((await host.files.list(dataDir)).length === 0) return say(`There is nothing in ${dataDir}.`);
  await requireDataFolder(host, facts, dataDir);
  const lock = await takeOver(host, dataDir, say);
  try {
    const { installationId, nodeId, name } = (await readNodeFile(host, dataDir)) ?? {};
    if (installationId)
      await removeMachines({ host, facts, dataDir, installationId, nodeName: name ?? nodeId ?? "" }, say);
    await removeFolder(host, dataDir, say);
  } finally {
    await lock.release();
  }
}

async function requireDataFolder(host: Host, facts: HostFacts, dataDir: string): Promise<void> {
  await requireNoLink(dataDir);
  const owner = await host.files.owner(dataDir);
  if (owner !== facts.uid)
    throw new ConfigError(`${dataDir} is not this user's but of uid ${owner}, who can purge it.`);
  if ((await readNodeFile(host, dataDir).catch(() => undefined)) ?? (await lastHolder(join(dataDir, "lock")))) return;
  throw new ConfigError(`${dataDir} is not a data folder of Berth: it has neither node.json nor a berthd's lock.`);
}

/** The folder's lock, after the berthd that holds it was stopped: that very process, told by its start and boot, and no other. */
async function takeOver(host: Host, dataDir: string, say: (line: string) => void): Promise<FolderLock> {
  const path = join(dataDir, "lock");
  const holder = await lastHolder(path);
  const lock = await lockFolder(path);
  if (lock) return lock;
  if (holder && (await host.signal(holder, "SIGTERM"))) {
    await host.waitForExit(holder, AbortSignal.timeout(stopTimeoutMs)).catch(() => undefined);
    const freed = await lockFolder(path);
    if (freed) {
      say(`Stopped berthd (process ${holder.pid}).`);
      return freed;
    }
  }
  throw new ConfigError(`A berthd works in ${dataDir} and could not be stopped from here. Stop it, then purge again.`);
}

interface Installation {
  readonly host: Host;
  readonly facts: HostFacts;
  readonly dataDir: string;
  readonly installationId: string;
  readonly nodeName: string;
}

async function removeMachines(installation: Installation, say: (line: string) => void): Promise<void> {
  for (const kind of Object.keys(drivers) as (keyof typeof drivers)[]) {
    const accelerator = () => Promise.reject(new Error("purge starts nothing"));
    const { driver, network } = joinMachines({ ...installation, kind, accelerator });
    for (const { owner, handle } of await driver.list(installation.installationId)) {
      await driver.destroy(handle);
      say(`Removed the machine of ${owner.instanceId}.`);
    }
    await network.purge();
  }
}

/** Only what Berth has put there: a folder that also holds other things keeps those. */
async function removeFolder(host: Host, dataDir: string, say: (line: string) => void): Promise<void> {
  const images = await createImages({ host, dataDirectory: dataDir, outbound: { allowHosts: [] } });
  // A killed build's files belong to subordinate users; whoever may become those has to remove them.
  await images.removeLeftovers();
  for (const name of dataFolderNames) await host.files.remove(join(dataDir, name));
  const others = await host.files.list(dataDir);
  if (others.length === 0) return say(await removeEmpty(dataDir));
  say(`Removed what Berth had in ${dataDir}, and left what is not its: ${others.join(", ")}.`);
}

/** Removes the folder itself, where that can be; says what was done. */
async function removeEmpty(dataDir: string): Promise<string> {
  try {
    await rmdir(dataDir);
    return `Removed ${dataDir}.`;
  } catch (error) {
    // Its parent is somebody else's, or it is where a file system is mounted.
    const { code = "" } = error as NodeJS.ErrnoException;
    if (!["EACCES", "EPERM", "EBUSY", "EROFS"].includes(code)) throw error;
    return `Emptied ${dataDir}, which cannot be removed itself (${code}).`;
  }
}
