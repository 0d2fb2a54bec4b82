import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { BerthError } from "@berth/api";
import type { NicDescription, PortForward } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";
import { innerBinding, namespaceLauncher, namespaceResolvConf } from "./namespace-launcher.ts";
import { requirePublishable, userNetdev } from "./netdev.ts";
import { nft } from "./nft.ts";
import { hostRules, namespaceRules, parseResolvers, withoutRules } from "./rules.ts";

/** A card as it is wished for. */
export type NicWish = Omit<NicDescription, "netdev">;

/** How an instance's hypervisor joins its networks. */
export interface Attachment {
  readonly nics: readonly NicDescription[];
  /** Put before the hypervisor's own command; empty when it runs in the host's namespaces. */
  readonly launcher: readonly string[];
}

/**
 * User-mode networking: guests reach out and are reached on published ports, and never reach the host's loopback, link-local or own addresses.
 * As root this is held by firewall rules on the guests' uids, else by a network namespace around each hypervisor.
 */
export interface UserNetwork {
  /** Whether guests can be joined to it here, and why not. */
  check(): Promise<{ readonly healthy: boolean; readonly reason: string; readonly hint: string }>;
  /** Puts the rules in place for the host as it is now. To be called before each start; the same again changes nothing. */
  prepare(): Promise<void>;
  /** What a hypervisor is started with. Throws `unsupported_by_driver` for a port that cannot be published. */
  attach(nics: readonly NicWish[]): Promise<Attachment>;
  /** Takes every rule and file of this installation away; resolves when there is none. */
  purge(): Promise<void>;
}

export interface UserNetworkOptions {
  readonly host: Host;
  readonly installationId: string;
  /** A folder of the daemon's own; the rules of namespaces are kept in it. */
  readonly folder: string;
  /** Only for the tests' negative control: everything but the protection. */
  readonly unprotected?: boolean;
}

/** `uids` are those that guests run as; null when the daemon is not root. */
export function userNetwork(
  options: UserNetworkOptions & { readonly uids: { readonly first: number; readonly last: number } | null },
): UserNetwork {
  return options.uids ? networkByRules({ ...options, uids: options.uids }) : networkByNamespace(options);
}

/** The nft table of an installation: its own, so that rules of others are never touched. */
export function tableName(installationId: string): string {
  return `berth_${createHash("sha256").update(installationId).digest("hex").slice(0, 12)}`;
}

/** The nft table by which its published ports change hands: the elements of the other are never to be lost with its rules. */
export function portTableName(installationId: string): string {
  return `${tableName(installationId)}_ports`;
}

function networkByRules(
  options: UserNetworkOptions & { readonly uids: { readonly first: number; readonly last: number } },
): UserNetwork {
  const { host, uids } = options;
  const table = tableName(options.installationId);
  const prepare = async () => {
    const resolvers = parseResolvers((await host.files.readText("/etc/resolv.conf")) ?? "");
    if (!options.unprotected) await nft(host, hostRules({ table, uids, resolvers, folder: options.folder }));
  };
  return {
    prepare,
    async check() {
      if (!(await host.find("nft"))) return unhealthy("nft is not installed", "Install nftables.");
      try {
        await prepare();
        return { healthy: true, reason: "guests are kept from the host by firewall rules", hint: "" };
      } catch (error) {
        return unhealthy((error as Error).message, "berthd needs CAP_NET_ADMIN and a kernel with nf_tables.");
      }
    },
    async attach(nics) {
      requirePublishable(nics.flatMap((nic) => nic.forwards));
      return { nics: nics.map((nic) => ({ ...nic, netdev: userNetdev(nic.forwards, []) })), launcher: [] };
    },
    async purge() {
      // Where there is no nft, there never were rules.
      const tables = [table, portTableName(options.installationId)];
      if (await host.find("nft")) await nft(host, tables.map(withoutRules).join(""));
    },
  };
}

function networkByNamespace(options: UserNetworkOptions): UserNetwork {
  const { host, folder } = options;
  const rulesPath = join(folder, "guests.nft");
  const resolvConfPath = join(folder, "resolv.conf");

  const prepare = async () => {
    if (!(await isUsable(tunDevice))) throw new BerthError("host_program_failed", `${noTun.reason}. ${noTun.hint}`);
    const { addresses } = await host.facts();
    await host.files.makeDirectory(folder, { mode: 0o700 });
    await host.files.writeAtomic(rulesPath, options.unprotected ? "" : namespaceRules(addresses));
    await host.files.writeAtomic(resolvConfPath, namespaceResolvConf);
  };
  const launcher = async (forwards: readonly PortForward[]) => {
    const ifProgram = await host.find("/usr/lib/execline/bin/if");
    if (!ifProgram) throw new BerthError("host_program_failed", "execline is not installed");
    const mapGateway = options.unprotected ?? false;
    return namespaceLauncher(forwards, { ifProgram, rulesPath, resolvConfPath, mapGateway });
  };
  return {
    prepare,
    async check() {
      for (const [program, debianPackage] of namespacePrograms) {
        if (!(await host.find(program))) return unhealthy(`${program} is not installed`, `Install ${debianPackage}.`);
      }
      if (!(await isUsable(tunDevice))) return unhealthy(noTun.reason, noTun.hint);
      try {
        await prepare();
        const [program = "", ...args] = [...(await launcher([])), "true"];
        await host.run(program, args);
        return { healthy: true, reason: "guests are kept from the host by a network namespace each", hint: "" };
      } catch (error) {
        const hint = "Unprivileged user namespaces must be allowed: sysctl kernel.unprivileged_userns_clone=1";
        return unhealthy((error as Error).message, hint);
      }
    },
    async attach(nics) {
      requirePublishable(nics.flatMap((nic) => nic.forwards));
      const forwards = nics.flatMap((nic) => nic.forwards);
      const bound = (nic: NicWish) => nic.forwards.map((forward) => innerBinding(forwards.indexOf(forward)));
      return {
        nics: nics.map((nic) => ({ ...nic, netdev: userNetdev(nic.forwards, bound(nic)) })),
        launcher: await launcher(forwards),
      };
    },
    purge: () => host.files.remove(folder),
  };
}

/** What a guest's way out of its namespace is made with; udev lets everybody open it. */
const tunDevice = "/dev/net/tun";
const noTun = {
  reason: `berthd's user may not open ${tunDevice}, which joins guests to the network`,
  hint: `As root: modprobe tun; chmod 0666 ${tunDevice}`,
};

const namespacePrograms = [
  ["pasta", "passt"],
  ["nft", "nftables"],
  ["/usr/lib/execline/bin/if", "execline"],
  ["unshare", "util-linux"],
  ["setpriv", "util-linux"],
  ["mount", "mount"],
] as const;

function unhealthy(reason: string, hint: string) {
  return { healthy: false, reason, hint };
}

async function isUsable(path: string): Promise<boolean> {
  return access(path, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}
