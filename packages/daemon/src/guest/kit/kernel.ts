import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { BerthError } from "@berth/api";
import type { Host } from "../../host/host.ts";
import type { KitFile, KitInputs } from "./kit-inputs.ts";

/** Modules in the order they are loaded; one that a kernel has built in is left out. */
const modules = [
  "virtio_ring",
  "virtio",
  "virtio_pci_modern_dev",
  "virtio_pci_legacy_dev",
  "virtio_pci",
  "virtio_console",
  "virtio_blk",
  "failover",
  "net_failover",
  "virtio_net",
];

/** The kernel and its modules, as files. */
export interface Kernel {
  readonly image: Uint8Array;
  readonly modules: readonly KitFile[];
}

/** Downloads the kernel's package into the folder and takes from it what the guest needs. apt checks its signature. */
export async function fetchKernel(
  host: Host,
  kernel: KitInputs["kernel"],
  folder: string,
  signal: AbortSignal,
): Promise<Kernel> {
  await host.run("apt-get", ["-q", "download", `${kernel.package}=${kernel.version}`], {
    cwd: folder,
    signal,
    timeoutMs: 600_000,
  });
  const archive = (await host.files.list(folder)).find((name) => name.endsWith(".deb"));
  if (!archive) throw new BerthError("host_program_failed", `apt-get downloaded no ${kernel.package}.`);
  const tree = join(folder, "kernel");
  await host.run("dpkg-deb", ["-x", join(folder, archive), tree], { signal });
  const { stdout } = await host.run("find", [tree, "-type", "f"], { signal });
  const files = stdout.split("\n");
  const image = files.find((path) => path.startsWith(join(tree, "boot", "vmlinuz-")));
  if (!image) throw new BerthError("host_program_failed", `${kernel.package} has no kernel.`);
  const found = await Promise.all(modules.map((name) => readModule(host, name, files, signal)));
  return {
    image: await buffer(host.files.readStream(image)),
    modules: found.filter((module) => module !== undefined),
  };
}

/** Debian 13 compresses its modules; they are unpacked here rather than in each guest. */
async function readModule(
  host: Host,
  name: string,
  files: readonly string[],
  signal: AbortSignal,
): Promise<KitFile | undefined> {
  const path = files.find((file) => new RegExp(`/${name}\\.ko(\\.xz|\\.zst)?$`).test(file));
  if (!path) return undefined;
  if (path.endsWith(".xz")) await host.run("xz", ["-d", "-k", path], { signal });
  if (path.endsWith(".zst")) await host.run("zstd", ["-d", "-q", path], { signal });
  const plain = path.replace(/\.(xz|zst)$/, "");
  return { path: `lib/modules/${name}.ko`, content: await buffer(host.files.readStream(plain)) };
}
