import { isIPv6 } from "node:net";
import { BerthError } from "@berth/api";
import type { PortForward } from "../core/descriptions.ts";

/** What the guest sees of a user-mode network; its init sets these addresses by itself. */
export const guestNetwork = { cidr: "10.0.2.0/24", guest: "10.0.2.15", gateway: "10.0.2.2", dns: "10.0.2.3" } as const;

/** Where a published port is bound, as QEMU sees it. */
export interface Binding {
  readonly address: string;
  readonly port: number;
}

/** The value of QEMU's -netdev for user-mode networking with its published ports, without an id; pure. */
export function userNetdev(forwards: readonly PortForward[], bindings: readonly Binding[]): string {
  const rules = forwards.map((forward, index) => {
    const { address, port } = bindings[index] ?? { address: forward.hostAddress, port: forward.hostPort };
    return `hostfwd=${forward.protocol}:${address}:${port}-${guestNetwork.guest}:${forward.guestPort}`;
  });
  const { cidr, gateway, dns, guest } = guestNetwork;
  return ["user", "ipv6=off", `net=${cidr}`, `host=${gateway}`, `dns=${dns}`, `dhcpstart=${guest}`, ...rules].join(",");
}

/** Refuses what user-mode networking cannot publish: QEMU forwards to the guest from IPv4 addresses only. */
export function requirePublishable(forwards: readonly PortForward[]): void {
  const ipv6 = forwards.find(({ hostAddress }) => isIPv6(hostAddress));
  if (ipv6)
    throw new BerthError(
      "unsupported_by_driver",
      `User-mode networking cannot publish on ${ipv6.hostAddress}: only on IPv4 addresses.`,
    );
}
