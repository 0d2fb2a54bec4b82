import { once } from "node:events";
import { chmod, lchown } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import type { UnixListener } from "./host.ts";

/** Nobody can connect between the socket's making and its being given away: it is made for this process alone, and its folder is the daemon's own. */
export async function listenUnix(
  path: string,
  user: { readonly uid: number; readonly gid: number } | null,
): Promise<UnixListener> {
  const first = Promise.withResolvers<Socket>();
  first.promise.catch(() => {});
  let taken = false;
  const server = createServer((socket) => {
    if (taken) socket.destroy();
    taken = true;
    first.resolve(socket);
  });
  server.listen(path);
  await once(server, "listening");
  if (user) await lchown(path, user.uid, user.gid);
  await chmod(path, 0o600);
  return {
    async accept(signal) {
      signal.throwIfAborted();
      const onAbort = () => first.reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        return await first.promise;
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    },
    async close() {
      server.close();
      await once(server, "close");
    },
  };
}
