/** A TCP socket of the kernel's table, /proc/net/tcp (proc(5)). */
export interface KernelSocket {
  readonly address: string;
  readonly port: number;
  readonly state: number;
  /** Of one that listens: how many connections wait to be accepted. */
  readonly waiting: number;
  /** Zero for one that no program has: not accepted yet, or left to the kernel to end. */
  readonly inode: number;
}

/** The states of include/net/tcp_states.h that matter here. */
const states = { established: 1, synReceived: 3, finWait1: 4, finWait2: 5, closeWait: 8, listen: 10 } as const;
/** On its way, to be accepted, or in use. */
const open: readonly number[] = [states.established, states.synReceived, states.closeWait];
/** The program has said all it had to say; the kernel alone may be left with it. */
const ending: readonly number[] = [states.finWait1, states.finWait2];

/** Reads the kernel's table of IPv4 TCP sockets; pure. */
export function parseSockets(text: string): readonly KernelSocket[] {
  return text
    .split("\n")
    .slice(1)
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, local = "", , state = "", queues = "", , , , , inode = ""] = line.trim().split(/\s+/);
      const [address = "", port = ""] = local.split(":");
      const [, waiting = ""] = queues.split(":");
      return {
        address: dotted(address),
        port: Number.parseInt(port, 16),
        state: Number.parseInt(state, 16),
        waiting: Number.parseInt(waiting, 16),
        inode: Number(inode),
      };
    });
}

/** The kernel writes an address as the hexadecimal of its bytes read as one number in the machine's order: little-endian on all that Berth runs on. */
function dotted(hex: string): string {
  return [...Buffer.from(hex, "hex")].reverse().join(".");
}

/** Where something may be listened to; 0.0.0.0 for all addresses. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** How many connections to these ports a program has open, or are on their way to one; pure. */
export function openConnections(sockets: readonly KernelSocket[], endpoints: readonly Endpoint[]): number {
  return sockets.filter(
    (socket) =>
      isAt(socket, endpoints) && (open.includes(socket.state) || (ending.includes(socket.state) && socket.inode !== 0)),
  ).length;
}

/** How many connections to these ports have not been accepted yet, those on their way included; pure. */
export function unaccepted(sockets: readonly KernelSocket[], endpoints: readonly Endpoint[]): number {
  let count = 0;
  for (const socket of sockets) {
    if (!isAt(socket, endpoints)) continue;
    if (socket.state === states.synReceived) count += 1;
    if (socket.state === states.listen) count += socket.waiting;
  }
  return count;
}

function isAt(socket: KernelSocket, endpoints: readonly Endpoint[]): boolean {
  return endpoints.some(
    ({ address, port }) => port === socket.port && (address === "0.0.0.0" || address === socket.address),
  );
}
