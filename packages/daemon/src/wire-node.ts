import { join } from "node:path";
import { BerthError, type Node } from "@berth/api";
import type { Logger } from "pino";
import type { Config } from "./config.ts";
import type { Driver } from "./drivers/driver.ts";
import { drivers } from "./drivers/index.ts";
import { probeAccelerator, type Verdict } from "./drivers/qemu/accelerator.ts";
import { GuestHub } from "./guest/hub.ts";
import { findKit } from "./guest/kit/find-kit.ts";
import type { Host, HostFacts } from "./host/host.ts";
import { createImages } from "./images/images.ts";
import type { Identity } from "./installation.ts";
import { type UserNetwork, userNetwork } from "./network/user-network.ts";
import { nodeName } from "./nodes/describe-node.ts";
import { InstanceFolders, userRange } from "./storage/instance-folder.ts";
import type { Store } from "./store/store.ts";
import type { Services } from "./workflows/services.ts";

/** What wiring starts from. */
export interface NodeWiring {
  readonly config: Config;
  readonly log: Logger;
  readonly host: Host;
  readonly facts: HostFacts;
  readonly store: Store;
  readonly identity: Identity;
  readonly signal: AbortSignal;
}

/** A node's rooms, joined. */
export interface WiredNode {
  readonly services: Services;
  readonly driver: Driver;
  /** How guests are run; null while it is being found out. */
  accelerator(): Node["accelerator"];
}

const qemuByArchitecture = { amd64: "qemu-system-x86_64", arm64: "qemu-system-aarch64" } as const;

/** Makes the rooms of this node and joins them; finds out in the background how guests run here. */
export async function wireNode(wiring: NodeWiring): Promise<WiredNode> {
  const { config, host, facts, store, identity } = wiring;
  const { dataDir } = config;
  const isRoot = facts.uid === 0;
  const uids = isRoot ? userRange(identity.installationId) : null;
  const isOurs = (uid: number) => (uids ? uid >= uids.first && uid <= uids.last : uid === facts.uid);
  const instancesDir = join(dataDir, "instances");
  const kit = await findKit(host, config.kitRoot);
  let verdict: Verdict | null = null;
  const probing = probe().then((found) => {
    verdict = found;
    return found;
  });

  async function probe(): Promise<Verdict> {
    if (config.driver !== "qemu")
      return { kind: "none", reason: `the driver ${config.driver} runs no guests here`, probedAt: Date.now() };
    if (!kit) return { kind: "none", reason: "the guest kit has not been built", probedAt: Date.now() };
    const scratchDir = join(dataDir, "probe");
    return probeAccelerator({
      host,
      kit,
      qemu: qemuByArchitecture[facts.architecture],
      installationId: identity.installationId,
      isOurs,
      scratchDir,
      cachePath: join(dataDir, "accelerator.json"),
      user: uids && { uid: uids.last, gid: uids.last },
      signal: wiring.signal,
    });
  }

  const location = `${nodeName(facts.hostname)}/${config.driver}`;
  const driver = drivers[config.driver]({
    host,
    location,
    installationId: identity.installationId,
    dataDir,
    instancesDir,
    isOurs,
    accelerator: () => probing,
  });
  const services: Services = {
    store,
    host,
    images: await createImages({ host, dataDirectory: dataDir, outbound: { allowHosts: config.allowHosts } }),
    guests: new GuestHub(),
    folders: new InstanceFolders({ host, root: instancesDir, range: uids }),
    network:
      config.driver === "fake"
        ? noNetwork
        : userNetwork({ host, installationId: identity.installationId, folder: join(dataDir, "network"), uids }),
    kit,
    driver(name) {
      if (name === location) return driver;
      throw new BerthError("unsupported_by_driver", `The location ${name} is not configured on this node.`);
    },
    ownerOf: (instanceId) => ({ installationId: identity.installationId, instanceId }),
    readyTimeoutMs: config.readyTimeoutMs,
  };
  return {
    services,
    driver,
    accelerator: () => verdict && { ...verdict, probedAt: new Date(verdict.probedAt).toISOString() },
  };
}

/** For drivers whose machines have no network on this node. */
const noNetwork: UserNetwork = {
  check: async () => ({ healthy: true, reason: "the driver needs none", hint: "" }),
  prepare: async () => undefined,
  attach: async (nics) => ({ nics: nics.map((nic) => ({ ...nic, netdev: "" })), launcher: [] }),
  purge: async () => undefined,
};
