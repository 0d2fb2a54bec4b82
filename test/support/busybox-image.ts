import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "@berth/api";
import { localHost } from "../../packages/daemon/src/host/local.ts";

/** A reference for `buildBusybox`. */
export const busyboxImage = "localhost/busybox:latest";

/** A folder whose Dockerfile makes an image of one static busybox, made below `folder`. */
async function busyboxContext(folder: string): Promise<string> {
  const context = join(folder, "busybox");
  const busybox = await localHost().find("busybox");
  if (!busybox) throw new Error("busybox is not installed: run npm test");
  mkdirSync(context, { recursive: true });
  copyFileSync(busybox, join(context, "busybox"));
  const lines = ["FROM scratch", "COPY --chmod=755 busybox /bin/busybox", "COPY --chmod=755 busybox /bin/sh"];
  writeFileSync(join(context, "Dockerfile"), `${lines.join("\n")}\nCMD ["/bin/busybox", "httpd", "-f", "-p", "80"]\n`);
  return context;
}

/** Builds it; its process is a web server on port 80. */
export async function buildBusybox(client: Client, folder: string): Promise<void> {
  const source = { type: "directory" as const, path: await busyboxContext(folder) };
  const { operation } = await client.buildImage({ query: { wait: 120 }, body: { reference: busyboxImage, source } });
  if (operation.error) throw new Error(operation.error.detail);
}
