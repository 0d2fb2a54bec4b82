import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

/** Below the range the kernel gives to outgoing connections (ip_local_port_range begins at 32768), so nobody gets one of ours by chance. */
const first = 21_000;
const count = 11_000;

/** A port of the loopback address that is free and that nobody else who claims in the same folder gets. */
export async function claimPort(folder: string): Promise<number> {
  mkdirSync(folder, { recursive: true });
  for (let tries = 0; tries < 1000; tries++) {
    const port = first + Math.floor(Math.random() * count);
    if (claim(join(folder, `${port}`)) && (await isFree(port))) return port;
  }
  throw new Error("no free port was found");
}

function claim(path: string): boolean {
  try {
    writeFileSync(path, "", { flag: "wx" });
    return true;
  } catch {
    return false;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
