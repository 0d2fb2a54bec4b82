import { join } from "node:path";
import { BerthError, type Check, type Node } from "@berth/api";
import type { Logger } from "pino";
import { ArchiveFiles } from "./archives/archive-files.ts";
import type { Config } from "./config.ts";
import type { KitDescription } from "./core/descriptions.ts";
import type { Driver, Verdict } from "./drivers/driver.ts";
import { type DriverKind, drivers } from "./drivers/index.ts";
import { GuestHub } from "./guest/hub.ts";
import { findKit } from "./guest/kit/find-kit.ts";
import { keepKit } from "./guest/kit/keep-kit.ts";
import { Sessions } from "./guest/sessions.ts";
import type { Host, HostFacts } from "./host/host.ts";
import { createImages } from "./images/images.ts";
import type { Identity } from "./installation.ts";
import { nftPortTable, noPortTable, type PortTable } from "./network/port-table.ts";
import { PortTraffic } from "./network/port-traffic.ts";
import { StandIns } from "./network/stand-ins.ts";
import { portTableName, type UserNetwork, userNetwork } from "./network/user-network.ts";
import { createFaultPoints } from "./operations/fault.ts";
import { InstanceFolders, type UserRange, userRange } from "./storage/instance-folder.ts";
import { SnapshotFolders } from "./storage/snapshot-folders.ts";
import { TemplateFolders } from "./storage/template-folders.ts";
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
}

/** A node's rooms, joined. */
export interface WiredNode {
  readonly services: Services;
  readonly driver: Driver;
  /** Why nobody can be put to sleep and woken by connections here; empty when that can be. */
  readonly cannotStandIn: string;
  /** Finds out how guests are run, once; who starts one waits for it. Resolves when that is known or given up, and what was tried is gone. */
  findAccelerator(signal: AbortSignal): Promise<void>;
  /** How guests are run; null while it is being found out. */
  accelerator(): Node["accelerator"];
  /** Resolves when that is known. */
  readonly found: Promise<void>;
  /** Whether guests can be joined to networks and kept from the host. */
  networkCheck(): Promise<Check>;
}

/** Makes the rooms of this node and joins them; nothing runs yet that would have to be ended. */
export async function wireNode(wiring: NodeWiring): Promise<WiredNode> {
  const { config, host, facts, store, identity } = wiring;
  const { dataDir } = config;
  const { installationId, nodeName } = identity;
  const kind: DriverKind = drivers[config.driver];
  const kit = await kitToBoot(wiring, kind);
  const found = Promise.withResolvers<Verdict>();
  const accelerator = () => found.promise;
  const machines = joinMachines({ host, facts, dataDir, installationId, nodeName, kind: config.driver, accelerator });
  const { driver, network, portTable, uids, isOurs, instancesDir } = machines;
  // What a former daemon diverted leads nowhere.
  await portTable?.remove();
  let verdict: Verdict | null = null;

  async function probe(signal: AbortSignal): Promise<Verdict> {
    if (!kind.findAccelerator)
      return { kind: "none", reason: `the driver ${config.driver} runs no guests here`, probedAt: Date.now() };
    if (!kit) return { kind: "none", reason: "the guest kit has not been built", probedAt: Date.now() };
    const user = uids && { uid: uids.last, gid: uids.last };
    const { architecture } = facts;
    return kind.findAccelerator({ host, architecture, kit, installationId, isOurs, dataDir, user, signal });
  }

  const folders = new InstanceFolders({ host, root: instancesDir, range: uids });
  const services: Services = {
    store,
    host,
    images: await createImages({
      host,
      dataDirectory: dataDir,
      outbound: { allowHosts: config.allowHosts },
      credentials: config.registryCredentials,
    }),
    guests: new GuestHub(),
    sessions: new Sessions(),
    folders,
    templates: new TemplateFolders(host, join(dataDir, "templates")),
    archives: new ArchiveFiles({ host, directory: join(dataDir, "archives") }),
    snapshotFolders: new SnapshotFolders({ host, root: join(dataDir, "snapshots"), user: folders.nobody }),
    nodeId: identity.nodeId,
    network,
    standIns: new StandIns({
      host,
      table: portTable,
      onError: (instance, err) => wiring.log.warn({ instance, err }, "standing in for an instance on its ports"),
    }),
    traffic: new PortTraffic({ host, table: portTable ?? noPortTable }),
    kit,
    driver(name) {
      if (name === driver.location) return driver;
      throw new BerthError("unsupported_by_driver", `The location ${name} is not configured on this node.`);
    },
    ownerOf: (instanceId) => ({ installationId, instanceId }),
    faults: createFaultPoints(config.fault, (point) => wiring.log.warn({ point }, "paused")),
    readyTimeoutMs: config.readyTimeoutMs,
  };
  return {
    services,
    driver,
    cannotStandIn: portTable ? "" : onlyRootStandsIn,
    async findAccelerator(signal) {
      verdict = await probe(signal).catch(
        (error: Error): Verdict => ({ kind: "none", reason: error.message, probedAt: Date.now() }),
      );
      found.resolve(verdict);
    },
    found: found.promise.then(() => undefined),
    networkCheck: async () => {
      const { healthy, reason, hint } = await network.check();
      return { name: "user-mode network", ok: healthy, detail: reason, hint };
    },
    accelerator: () => verdict && { ...verdict, probedAt: new Date(verdict.probedAt).toISOString() },
  };
}

const onlyRootStandsIn =
  "Only firewall rules let the ports of one who sleeps change hands without refusing anyone, and berthd is not root.";

/** What the machines of one installation on a node are made and found with. */
export interface Machines {
  readonly driver: Driver;
  readonly network: UserNetwork;
  /** Undefined where there is none: nobody can be stood in for then. */
  readonly portTable: PortTable | undefined;
  readonly instancesDir: string;
  /** The users that guests run as; null when berthd is not root, and they run as its own. */
  readonly uids: UserRange | null;
  isOurs(uid: number): boolean;
}

/** Joins a driver with what it needs of the node; nothing is touched yet. */
export function joinMachines(parts: {
  readonly host: Host;
  readonly facts: HostFacts;
  readonly dataDir: string;
  readonly installationId: string;
  readonly nodeName: string;
  readonly kind: keyof typeof drivers;
  readonly accelerator: () => Promise<Verdict>;
}): Machines {
  const { host, facts, dataDir, installationId, nodeName, kind, accelerator } = parts;
  const uids = facts.uid === 0 ? userRange(installationId) : null;
  const isOurs = (uid: number) => (uids ? uid >= uids.first && uid <= uids.last : uid === facts.uid);
  const instancesDir = join(dataDir, "instances");
  const location = `${nodeName}/${kind}`;
  const fixedPorts = uids === null;
  const { architecture } = facts;
  const settings = { host, architecture, location, installationId, dataDir, instancesDir, isOurs, accelerator };
  const { make, network: joinedTo } = drivers[kind];
  const driver = make({ ...settings, fixedPorts });
  const hasNetwork = joinedTo === "user";
  const folder = join(dataDir, "network");
  const network = hasNetwork ? userNetwork({ host, installationId, folder, uids }) : noNetwork;
  const table = { host, table: portTableName(installationId), folder };
  const portTable = !hasNetwork ? noPortTable : uids ? nftPortTable(table) : undefined;
  return { driver, network, portTable, instancesDir, uids, isOurs };
}

/** The kit that guests boot; undefined when none was built. */
async function kitToBoot({ host, config }: NodeWiring, kind: DriverKind): Promise<KitDescription | undefined> {
  const kit = await findKit(host, config.kitRoot);
  return kit && kind.findAccelerator ? keepKit(host, kit, join(config.dataDir, "kit")) : kit;
}

/** For drivers whose machines have no network on this node. */
const noNetwork: UserNetwork = {
  check: async () => ({ healthy: true, reason: "the driver needs none", hint: "" }),
  prepare: async () => undefined,
  attach: async (nics) => ({ nics: nics.map((nic) => ({ ...nic, netdev: "" })), launcher: [] }),
  purge: async () => undefined,
};
