import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, isIPv6 } from "node:net";

/** A port in TIME_WAIT counts as free (node sets SO_REUSEADDR), as it does for QEMU. */
export async function tryPort(protocol: "tcp" | "udp", address: string, port: number): Promise<number | undefined> {
  try {
    return await (protocol === "tcp" ? tryTcp(address, port) : tryUdp(address, port));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EADDRINUSE") return undefined;
    throw error;
  }
}

async function tryTcp(host: string, port: number): Promise<number> {
  const server = createServer();
  server.listen({ host, port, exclusive: true });
  await once(server, "listening");
  const bound = (server.address() as { port: number }).port;
  server.close();
  await once(server, "close");
  return bound;
}

async function tryUdp(address: string, port: number): Promise<number> {
  const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
  socket.bind({ address, port, exclusive: true });
  await once(socket, "listening");
  const bound = socket.address().port;
  socket.close();
  await once(socket, "close");
  return bound;
}
