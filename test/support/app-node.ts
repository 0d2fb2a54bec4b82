import { join } from "node:path";
import type { Client } from "@berth/api";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { startBerthd } from "./berthd.ts";
import { scratchDirectory } from "./scratch.ts";

/** A berthd with the driver fake, and a registry with one small image. Both go together. */
export interface AppNode extends AsyncDisposable {
  readonly client: Client;
  readonly dataDir: string;
  /** The image's reference. */
  readonly image: string;
}

/** Starts it in a scratch folder of that name. */
export async function startAppNode(name: string, settings: Readonly<Record<string, string>> = {}): Promise<AppNode> {
  const registry = await startFakeRegistry();
  registry.addImage("app", "latest", [writeTar([{ path: "f", content: "x" }])], { config: { Cmd: ["/f"] } });
  const dataDir = join(await scratchDirectory(name), "data");
  const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: registry.host, ...settings };
  try {
    const { client, stop } = await startBerthd({ dataDir, env });
    return {
      client,
      dataDir,
      image: `${registry.host}/app`,
      async [Symbol.asyncDispose]() {
        await stop();
        await registry[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await registry[Symbol.asyncDispose]();
    throw error;
  }
}
