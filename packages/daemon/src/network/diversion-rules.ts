import { asComment } from "./comment.ts";

/** A published TCP port and the port of the daemon that takes its new connections for the time being. */
export interface Diversion {
  /** An IPv4 address of the node; 0.0.0.0 for all of them. */
  readonly address: string;
  readonly port: number;
  readonly innerPort: number;
}

/** A published port whose traffic is counted. */
export interface CountedPort {
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
}

/**
 * How long a diversion holds unless it is said again, in seconds: that of a daemon that died ends by itself, and whoever has the port is reached again.
 */
export const diversionTimeoutS = 30;

const everywhere = "0.0.0.0";

/**
 * nft's text for the table by which ports change hands; the same again changes nothing, and what its maps and sets hold stays. `here` and `anywhere` say where new connections
 * to a published port go instead; those that are established keep their way, which is the kernel's (conntrack). A SYN that was dropped, since a queue was full, keeps its way for a
 * second alone, so that the next one (they are repeated after 1, 2, 4 … seconds) finds the present way; one that comes sooner on the old way is dropped, not refused. Pure.
 */
export function diversionTable({ table, folder }: { readonly table: string; readonly folder: string }): string {
  return `table inet ${table} {
  comment "${asComment(folder)}"
  ct timeout brief {
    protocol tcp
    l3proto ip
    policy = { syn_sent : 1 }
  }
  map here { type ipv4_addr . inet_service : ipv4_addr . inet_service; flags timeout; }
  map anywhere { type inet_service : inet_service; flags timeout; }
  set counted_here { type inet_proto . ipv4_addr . inet_service; counter; }
  set counted_anywhere { type inet_proto . inet_service; counter; }
  chain forget { }
  chain early_output { type filter hook output priority mangle; }
  chain early_prerouting { type filter hook prerouting priority mangle; }
  chain divert { }
  chain output { type nat hook output priority -100; }
  chain prerouting { type nat hook prerouting priority dstnat; }
  chain input { type filter hook input priority filter; }
}
flush table inet ${table}
table inet ${table} {
  chain forget {
    ip daddr . tcp dport @here ct timeout set "brief" return
    meta nfproto ipv4 tcp dport @anywhere ct timeout set "brief" return
    meta nfproto ipv4 meta l4proto . ip daddr . th dport @counted_here ct timeout set "brief" return
    meta nfproto ipv4 meta l4proto . th dport @counted_anywhere ct timeout set "brief"
  }
  chain early_output { meta l4proto tcp ct state new jump forget; }
  chain early_prerouting { meta l4proto tcp ct state new jump forget; }
  chain divert {
    dnat ip to ip daddr . tcp dport map @here
    meta nfproto ipv4 fib daddr type local meta l4proto tcp redirect to :tcp dport map @anywhere
  }
  chain output { jump divert; }
  chain prerouting { jump divert; }
  chain input {
    meta nfproto ipv4 meta l4proto . ip daddr . th dport @counted_here
    meta nfproto ipv4 meta l4proto . th dport @counted_anywhere
    tcp flags & (syn | ack) == syn ip daddr . tcp dport @here drop
    meta nfproto ipv4 tcp flags & (syn | ack) == syn tcp dport @anywhere drop
  }
}
`;
}

/** nft's text that diverts ports, or says again that they are. Added before it is deleted: nft refuses to delete what is not there. Pure. */
export function divert(table: string, diversions: readonly Diversion[]): string {
  return diversions
    .map((diversion) => {
      const add = `add element inet ${table} ${mapping(diversion)}\n`;
      return `${add}${undo(table, diversion)}${add}`;
    })
    .join("");
}

/** nft's text that gives ports back, whether or not they are diverted; pure. */
export function giveBack(table: string, diversions: readonly Diversion[]): string {
  return diversions
    .map((diversion) => `add element inet ${table} ${mapping(diversion)}\n${undo(table, diversion)}`)
    .join("");
}

function undo(table: string, { address, port }: Diversion): string {
  const from = address === everywhere ? `anywhere { ${port} }` : `here { ${address} . ${port} }`;
  return `delete element inet ${table} ${from}\n`;
}

function mapping({ address, port, innerPort }: Diversion): string {
  const timeout = `timeout ${diversionTimeoutS}s`;
  if (address === everywhere) return `anywhere { ${port} ${timeout} : ${innerPort} }`;
  return `here { ${address} . ${port} ${timeout} : ${address} . ${innerPort} }`;
}

/** nft's text that begins to count what comes to ports; those that are counted keep their count. Pure. */
export function count(table: string, ports: readonly CountedPort[]): string {
  return ports.map((port) => `add element inet ${table} ${counted(port)}\n`).join("");
}

/** nft's text that stops counting, whether or not anything was counted; pure. */
export function stopCounting(table: string, ports: readonly CountedPort[]): string {
  return ports
    .map((port) => `add element inet ${table} ${counted(port)}\ndelete element inet ${table} ${counted(port)}\n`)
    .join("");
}

function counted({ protocol, address, port }: CountedPort): string {
  if (address === everywhere) return `counted_anywhere { ${protocol} . ${port} }`;
  return `counted_here { ${protocol} . ${address} . ${port} }`;
}

/** How a counted port is named among `readCounts`; pure. */
export function countKey({ protocol, address, port }: CountedPort): string {
  return `${protocol} ${address} ${port}`;
}

/** The packets counted for each port, by `countKey`, from nft's JSON of the table; pure. */
export function readCounts(json: string): ReadonlyMap<string, number> {
  const { nftables } = JSON.parse(json) as { nftables: readonly { readonly set?: CountingSet }[] };
  const counts = new Map<string, number>();
  for (const { set } of nftables) {
    if (set?.name !== "counted_here" && set?.name !== "counted_anywhere") continue;
    for (const { elem } of set.elem ?? []) {
      const [protocol, ...rest] = elem.val.concat;
      const [address, port] = rest.length === 2 ? rest : [everywhere, rest[0]];
      counts.set(`${protocol} ${address} ${port}`, elem.counter.packets);
    }
  }
  return counts;
}

interface CountingSet {
  readonly name: string;
  readonly elem?: readonly {
    readonly elem: {
      readonly val: { readonly concat: readonly (string | number)[] };
      readonly counter: { readonly packets: number };
    };
  }[];
}
