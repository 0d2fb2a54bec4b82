import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { BerthError } from "@berth/api";
import type { Host } from "../../host/host.ts";

/** Raised when the layout of the initramfs changes in a way its sources do not show. */
const formatVersion = 1;

/** A file of the host that goes into the initramfs. */
export interface KitFile {
  /** Where it stands in the initramfs, without a leading slash. */
  readonly path: string;
  readonly content: Uint8Array;
}

/** Everything a kit is made from; `buildId` is the hash of it all. */
export interface KitInputs {
  readonly buildId: string;
  readonly kernel: { readonly package: string; readonly version: string };
  readonly files: readonly KitFile[];
}

/** Where the sources of the guest's init are. */
export const initSourceFolder = join(import.meta.dirname, "..", "init");

/** The source of the kit's program for the host. */
export const memoryToolSource = join(import.meta.dirname, "memory-file.c");

/** The programs that the guest needs beside init, and where it expects them. */
const programs = [
  { name: "dropbear", package: "dropbear-bin", path: "usr/sbin/dropbear" },
  { name: "tar", package: "tar", path: "bin/tar" },
];

/** The C files of the guest's init, by name. */
export async function readInitSources(): Promise<ReadonlyMap<string, string>> {
  const names = (await readdir(initSourceFolder)).filter((name) => /\.[ch]$/.test(name)).sort();
  return new Map(
    await Promise.all(
      names.map(
        async (name): Promise<[string, string]> => [name, await readFile(join(initSourceFolder, name), "utf8")],
      ),
    ),
  );
}

/** Names the sources of this checkout: a kit made from others does not fit this daemon. */
export async function hashSources(): Promise<string> {
  const hash = createHash("sha256").update(`${formatVersion}\0`);
  for (const [name, text] of await readInitSources()) hash.update(`${name}\0${text}\0`);
  hash.update(await readFile(memoryToolSource));
  return hash.digest("hex").slice(0, 16);
}

/** Looks at all inputs without downloading anything. Throws BerthError `host_program_failed` naming the package that is missing. */
export async function collectInputs(host: Host, signal: AbortSignal): Promise<KitInputs> {
  const [sourcesId, kernel, files] = await Promise.all([
    hashSources(),
    resolveKernel(host, signal),
    collectPrograms(host, signal),
  ]);
  const hash = createHash("sha256").update(`${sourcesId}\0${kernel.package}\0${kernel.version}\0`);
  for (const file of files) hash.update(`${file.path}\0${file.content.length}\0`).update(file.content);
  return { buildId: hash.digest("hex").slice(0, 16), kernel, files };
}

/** The cloud kernel of the host's own release: QEMU and kernel of one release are known to work together. */
async function resolveKernel(host: Host, signal: AbortSignal): Promise<KitInputs["kernel"]> {
  const { architecture } = await host.facts();
  const meta = `linux-image-cloud-${architecture}`;
  const shown = await host.run("apt-cache", ["show", "--no-all-versions", meta], { signal }).catch(() => undefined);
  const kernel = shown && parseKernelPackage(shown.stdout);
  if (!kernel)
    throw new BerthError(
      "host_program_failed",
      `apt knows no package ${meta}; run apt-get update as root, then try again.`,
    );
  return kernel;
}

/** Reads the package that a kernel metapackage depends on; undefined when there is none. */
export function parseKernelPackage(shown: string): KitInputs["kernel"] | undefined {
  const depends = /^Depends: (linux-image-[\w.+-]+)/m.exec(shown)?.[1];
  const version = /^Version: (\S+)/m.exec(shown)?.[1];
  return depends && version ? { package: depends, version } : undefined;
}

/** The programs with the libraries and the loader they need, each library once. */
async function collectPrograms(host: Host, signal: AbortSignal): Promise<readonly KitFile[]> {
  const sources = new Map<string, string>();
  for (const program of programs) {
    const path = await host.find(program.name);
    if (!path) throw new BerthError("host_program_failed", `${program.name} is missing; install ${program.package}.`);
    sources.set(program.path, path);
    const { stdout } = await host.run("ldd", [path], { signal });
    for (const library of parseLibraries(stdout)) sources.set(library.slice(1), library);
  }
  return Promise.all(
    [...sources].sort().map(async ([path, source]) => ({ path, content: await buffer(host.files.readStream(source)) })),
  );
}

/** The absolute paths in what ldd prints. */
export function parseLibraries(printed: string): readonly string[] {
  return [...printed.matchAll(/^\s+(?:\S+ => )?(\/\S+) \(0x/gm)].map((match) => match[1] ?? "");
}
