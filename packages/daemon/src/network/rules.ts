import { isIPv4, isIPv6 } from "node:net";
import { asComment } from "./comment.ts";

/** IPv4 destinations that are the host's own or its link's, whatever addresses it has: loopback, "this" network, link-local, multicast, reserved. */
const hostOnlyIpv4 = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"];
const hostOnlyIpv6 = ["::1", "fe80::/10", "ff00::/8"];

/** The nameservers of a resolv.conf(5); an interface behind an address (`fe80::1%eth0`) is left out. */
export function parseResolvers(text: string): readonly string[] {
  const servers = [...text.matchAll(/^[ \t]*nameserver[ \t]+([^\s%#;]+)/gm)].map((match) => match[1] ?? "");
  return [...new Set(servers)].filter((server) => isIPv4(server) || isIPv6(server));
}

/** A reset is the one answer that QEMU's network stack hands on to the guest at once. */
const refuseChain = `  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
`;

/**
 * nft's text for a daemon that is root: what hypervisors of the given uids send may not go to the host itself, wherever its addresses come from
 * (`fib daddr type local` asks the routing table), except to its resolvers' DNS port. Answers on published ports are `established`.
 * Refused rather than dropped, so that a guest's attempt fails at once. The whole replaces an earlier version in one transaction; pure.
 */
export function hostRules(options: {
  readonly table: string;
  readonly uids: { readonly first: number; readonly last: number };
  readonly resolvers: readonly string[];
  /** Whose rules they are, for people who look at them: a folder's path. */
  readonly folder: string;
}): string {
  const { table, uids, resolvers, folder } = options;
  return `table inet ${table}
delete table inet ${table}
table inet ${table} {
  comment "${asComment(folder)}"
${refuseChain}  chain guests {
    ct state established,related accept
${resolverRules(resolvers)}    fib daddr type { local, broadcast, anycast, multicast } goto refuse
    ip daddr { ${hostOnlyIpv4.join(", ")} } goto refuse
    ip6 daddr { ${hostOnlyIpv6.join(", ")} } goto refuse
  }
  chain output {
    type filter hook output priority filter; policy accept;
    meta skuid ${uids.first}-${uids.last} goto guests
  }
}
`;
}

/** nft's text that takes the rules away again, there or not. */
export function withoutRules(table: string): string {
  return `table inet ${table}\ndelete table inet ${table}\n`;
}

/**
 * nft's text for the namespace that an ordinary user's hypervisor lives in. All it sends leaves by the uplink to a helper outside, which would take
 * it to the host's own addresses as well as anywhere else; so those are named here, as they are when the guest starts. The namespace's own
 * loopback holds nothing but the guest's published ports, which come in over it. Pure.
 */
export function namespaceRules(hostAddresses: readonly string[]): string {
  const refused = [
    ...hostOnlyIpv4,
    ...hostAddresses.filter((address) => isIPv4(address) && !address.startsWith("127.")),
  ];
  return `table inet berth {
${refuseChain}  chain output {
    type filter hook output priority filter; policy accept;
    oifname "lo" accept
    meta nfproto ipv6 goto refuse
    ct state established,related accept
    ip daddr { ${refused.join(", ")} } goto refuse
  }
}
`;
}

function resolverRules(resolvers: readonly string[]): string {
  const rules = resolvers.map(
    (server) => `    ${isIPv4(server) ? "ip" : "ip6"} daddr ${server} meta l4proto { tcp, udp } th dport 53 accept\n`,
  );
  return rules.join("");
}
