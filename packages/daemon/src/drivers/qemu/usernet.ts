import type { PortForward } from "../../core/descriptions.ts";

/** One line of `info usernet`: a socket of user-mode networking (libslirp, slirp_connection_info). */
interface UserSocket {
  readonly protocol: "tcp" | "udp";
  /** A state of TCP, `HOST_FORWARD`, or how long a UDP socket has left. */
  readonly state: string;
  readonly source: Endpoint;
  readonly destination: Endpoint;
}

interface Endpoint {
  readonly address: string;
  readonly port: number;
}

const heading =
  /^\s*(?:Hub .*|\S+: .*|Protocol\[State\]\s+FD\s+Source Address\s+Port\s+Dest\. Address\s+Port\s+RecvQ\s+SendQ)\s*$/;
const row = /^\s*(TCP|UDP)\[([^\]]+)\]\s+-?\d+\s+(\S+)\s+(\d+)\s+(\S+)\s+(\d+)\s+\d+\s+\d+\s*$/;
/** Pings: they are no connections. */
const ping = /^\s*ICMP\[[^\]]+\]\s/;

/** Reads all of what `info usernet` says; pure. Throws at anything it does not know, since a connection that is overlooked would be cut. */
export function parseUsernet(text: string): readonly UserSocket[] {
  return text.split(/\r?\n/).flatMap((line): UserSocket[] => {
    const match = row.exec(line);
    if (match) {
      const [, protocol, state = "", source = "", sourcePort, destination = "", destinationPort] = match;
      return [
        {
          protocol: protocol === "TCP" ? "tcp" : "udp",
          state,
          source: { address: source, port: Number(sourcePort) },
          destination: { address: destination, port: Number(destinationPort) },
        },
      ];
    }
    if (line.trim() === "" || heading.test(line) || ping.test(line)) return [];
    throw new Error(`QEMU says of its network what cannot be understood: ${line.trim().slice(0, 200)}`);
  });
}

/** The published ports among the sockets; pure. */
export function publishedPorts(sockets: readonly UserSocket[]): readonly PortForward[] {
  return sockets
    .filter(({ state }) => state === "HOST_FORWARD")
    .map(({ protocol, source, destination }) => ({
      protocol,
      hostAddress: source.address === "*" ? "0.0.0.0" : source.address,
      hostPort: source.port,
      guestPort: destination.port,
    }));
}

/** States of a connection that nobody uses any more. */
const over = new Set(["CLOSED", "TIME_WAIT", "LAST_ACK", "CLOSING"]);

/** How many connections to published TCP ports are open; pure. */
export function openConnections(sockets: readonly UserSocket[]): number {
  const published = publishedPorts(sockets).filter(({ protocol }) => protocol === "tcp");
  return sockets.filter(
    ({ protocol, state, source, destination }) =>
      protocol === "tcp" &&
      state !== "HOST_FORWARD" &&
      !over.has(state) &&
      published.some(({ hostPort, guestPort }) => hostPort === source.port && guestPort === destination.port),
  ).length;
}

/** How a set of published ports becomes another; pure. What is freed before it is taken again comes as both. */
export function portChanges(
  present: readonly PortForward[],
  wanted: readonly PortForward[],
): Readonly<Record<"add" | "remove" | "replace", readonly PortForward[]>> {
  const sameHost = (a: PortForward, b: PortForward) =>
    a.protocol === b.protocol && a.hostAddress === b.hostAddress && a.hostPort === b.hostPort;
  const isThere = (port: PortForward) =>
    present.some((other) => sameHost(other, port) && other.guestPort === port.guestPort);
  const missing = wanted.filter((port) => !isThere(port));
  const replace = missing.filter((port) => present.some((other) => sameHost(other, port)));
  return {
    add: missing.filter((port) => !replace.includes(port)),
    remove: present.filter((other) => !wanted.some((port) => sameHost(other, port))),
    replace,
  };
}
