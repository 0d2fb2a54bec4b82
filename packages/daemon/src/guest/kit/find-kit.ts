import { join } from "node:path";
import { z } from "zod";
import type { KitDescription } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import { hashSources } from "./kit-inputs.ts";

/** What kit.json says of a build; it is written last, so a folder that has one is whole. */
const KitRecord = z.object({
  buildId: z.string(),
  sourcesId: z.string(),
  kernel: z.object({ package: z.string(), version: z.string() }),
  builtAt: z.iso.datetime(),
});

/** The newest kit made from this checkout's sources; undefined when none was built yet. Works offline: a newer kernel is left to buildKit. */
export async function findKit(host: Host, kitRoot: string): Promise<KitDescription | undefined> {
  if (!(await host.files.exists(kitRoot))) return undefined;
  const sourcesId = await hashSources();
  const folders = (await host.files.list(kitRoot))
    .filter((name) => !name.startsWith("."))
    .map((name) => join(kitRoot, name));
  const kits = await Promise.all(folders.map(async (folder) => ({ folder, record: await readKit(host, folder) })));
  const [newest] = kits
    .flatMap(({ folder, record }) => (record?.sourcesId === sourcesId ? [{ folder, record }] : []))
    .sort((a, b) => b.record.builtAt.localeCompare(a.record.builtAt));
  return newest && describeKit(newest.folder, newest.record.buildId);
}

/** The record of the build in a folder; undefined when there is none or it cannot be understood. */
export async function readKit(host: Host, folder: string): Promise<z.infer<typeof KitRecord> | undefined> {
  const text = await host.files.readText(join(folder, "kit.json"));
  if (text === undefined) return undefined;
  try {
    return KitRecord.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

export function describeKit(folder: string, buildId: string): KitDescription {
  return {
    buildId,
    kernelPath: join(folder, "vmlinuz"),
    initrdPath: join(folder, "initrd.img"),
    memoryToolPath: join(folder, "memory-file"),
  };
}
