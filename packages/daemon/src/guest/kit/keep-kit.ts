import { dirname, join } from "node:path";
import type { KitDescription } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import { describeKit, readKit } from "./find-kit.ts";

/**
 * Keeps a copy of a kit's build in a folder of the daemon's own, readable by all: the users that hypervisors run as cannot pass through a clone in
 * somebody's home, and instances go on booting when the clone has moved. One that is there already is taken as it is.
 */
export async function keepKit(host: Host, kit: KitDescription, folder: string): Promise<KitDescription> {
  const { files } = host;
  const kept = describeKit(join(folder, kit.buildId), kit.buildId);
  if (await readKit(host, join(folder, kit.buildId))) return kept;
  const half = join(folder, ".half");
  await files.makeDirectory(folder, { mode: 0o755 });
  await files.remove(half);
  await files.makeDirectory(half, { mode: 0o755 });
  const from = dirname(kit.kernelPath);
  for (const [name, mode] of [
    ["vmlinuz", 0o644],
    ["initrd.img", 0o644],
    ["memory-file", 0o755],
    ["kit.json", 0o644],
  ] as const) {
    await host.run("cp", ["--reflink=auto", join(from, name), half]);
    await files.chmod(join(half, name), mode);
  }
  await files.renameSynced(half, join(folder, kit.buildId));
  return kept;
}
