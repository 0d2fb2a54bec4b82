import type { PortForward } from "../core/descriptions.ts";
import type { Binding } from "./netdev.ts";

/** The network between the namespace and its helper; the guest never sees it. */
const uplink = { address: "10.0.3.15", prefix: "24", gateway: "10.0.3.2", dns: "10.0.3.3" } as const;

/** What the hypervisor reads as /etc/resolv.conf: the helper passes DNS on to the host's own resolver, even one on its loopback. */
export const namespaceResolvConf = `nameserver ${uplink.dns}\n`;

/** Published ports get ports of their own inside, where nothing else is. */
const firstInnerPort = 10_000;

/** Where QEMU binds a published port inside the namespace. */
export function innerBinding(index: number): Binding {
  return { address: "0.0.0.0", port: firstInnerPort + index };
}

/** The parts of a launcher that live on the node. */
export interface LauncherFiles {
  /** execline's `if`: runs one program and goes on as the other only when the first succeeded. */
  readonly ifProgram: string;
  readonly rulesPath: string;
  readonly resolvConfPath: string;
  /** Only for the tests' negative control: pasta's own default, by which its gateway is the host's loopback. */
  readonly mapGateway?: boolean;
}

/**
 * What an ordinary user's hypervisor is started by; pure. pasta makes the user, network and process namespaces and is the only way out of them;
 * inside, the rules are loaded, and only if that worked, all capabilities are given up for good and the hypervisor takes the process over.
 * pasta ends with it. No shell: each program is given the next as arguments.
 */
export function namespaceLauncher(forwards: readonly PortForward[], files: LauncherFiles): string[] {
  return [
    ...["pasta", "--quiet", "--foreground", "--ipv4-only", "--config-net"],
    ...(files.mapGateway ? [] : ["--no-map-gw"]),
    ...["--ns-ifname", "uplink", "--address", uplink.address, "--netmask", uplink.prefix, "--gateway", uplink.gateway],
    ...["--dns-forward", uplink.dns, "--no-dhcp", "--no-ndp", "--no-dhcpv6", "--no-ra"],
    ...published("--tcp-ports", "tcp", forwards),
    ...published("--udp-ports", "udp", forwards),
    ...["--tcp-ns", "none", "--udp-ns", "none", "--"],
    ...["unshare", "--mount", "--"],
    ...onlyIf(files.ifProgram, ["mount", "--bind", files.resolvConfPath, "/etc/resolv.conf"]),
    ...onlyIf(files.ifProgram, ["nft", "-f", files.rulesPath]),
    ...["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"],
  ];
}

function published(option: string, protocol: PortForward["protocol"], forwards: readonly PortForward[]): string[] {
  const wanted = forwards.map((forward, index) => ({ forward, inner: innerBinding(index).port }));
  const specs = wanted
    .filter(({ forward }) => forward.protocol === protocol)
    .flatMap(({ forward, inner }) => [option, `${forward.hostAddress}/${forward.hostPort}:${inner}`]);
  return specs.length > 0 ? specs : [option, "none"];
}

/** execline's way to give a program as an argument (a block): each word behind a space, the end an empty one. */
function onlyIf(ifProgram: string, command: readonly string[]): string[] {
  return [ifProgram, ...command.map((word) => ` ${word}`), ""];
}
