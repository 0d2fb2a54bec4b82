import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Berthd, type BerthdOptions, startBerthd } from "../support/berthd.ts";

/** The image of the instances that are exported. */
export const image = "localhost/any:latest";

/** A berthd on the fake driver, in a folder of its own, with an image of one file. */
export async function fakeBerthd(scratch: string, options: Partial<BerthdOptions> = {}): Promise<Berthd> {
  const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", ...options.env };
  const berthd = await startBerthd({ ...options, dataDir: join(scratch, "data"), env });
  const path = join(scratch, "context");
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "Dockerfile"), 'FROM scratch\nCOPY Dockerfile /\nENV FROM=image\nCMD ["/none"]\n');
  const body = { source: { type: "directory", path }, reference: image } as const;
  const { operation } = await berthd.client.buildImage({ query: { wait: 60 }, body });
  if (operation.error) throw new Error(operation.error.detail);
  return berthd;
}
