import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import type { Host } from "../../host/host.ts";
import { type CpioEntry, writeCpio } from "./cpio.ts";
import { initSourceFolder, type KitFile, memoryToolSource, readInitSources } from "./kit-inputs.ts";

const strict = ["-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"];
const options = [...strict, "-Os"];

/** Compiles the guest's init and the library that takes tar into the image's root. */
export async function compileInit(host: Host, folder: string, signal: AbortSignal): Promise<readonly KitFile[]> {
  const sources = [...(await readInitSources()).keys()].filter((name) => name.endsWith(".c"));
  const inits = sources.filter((name) => name !== "enter-root.c").map((name) => join(initSourceFolder, name));
  const init = join(folder, "init");
  const library = join(folder, "enter-root.so");
  await host.run("gcc", [...options, "-static", "-s", "-o", init, ...inits, "-ljansson"], { signal });
  await host.run("gcc", [...options, "-shared", "-fPIC", "-s", "-o", library, join(initSourceFolder, "enter-root.c")], {
    signal,
  });
  return [
    { path: "init", content: await buffer(host.files.readStream(init)) },
    { path: "lib/enter-root.so", content: await buffer(host.files.readStream(library)) },
  ];
}

/** Compiles the program that reads and seals guests' memory on the host, and puts it there; the same text for all hosts of an architecture. */
export async function compileMemoryTool(host: Host, path: string, signal: AbortSignal): Promise<void> {
  await host.run("gcc", [...strict, "-O2", "-static", "-s", "-o", path, memoryToolSource], { signal });
  await host.files.chmod(path, 0o755);
}

/** The initramfs: init, its modules in their order, the programs, and the one account that SSH logs in to. */
export function packInitramfs(
  compiled: readonly KitFile[],
  modules: readonly KitFile[],
  programs: readonly KitFile[],
): Buffer {
  const shell = compiled.filter((file) => file.path === "init").map((file) => ({ ...file, path: "sbin/berth-shell" }));
  const settings = [
    text("etc/modules", modules.map((module) => `/${module.path}\n`).join("")),
    text("etc/passwd", "root:*:0:0:root:/root:/sbin/berth-shell\n"),
    text("etc/group", "root:*:0:\ntty:*:5:\n"),
    text("etc/shells", "/sbin/berth-shell\n"),
  ];
  const executables = [...compiled, ...shell, ...programs];
  const files: CpioEntry[] = [
    ...executables.map((file): CpioEntry => ({ ...file, type: "file", mode: 0o755 })),
    ...[...modules, ...settings].map((file): CpioEntry => ({ ...file, type: "file", mode: 0o644 })),
  ];
  const folders = new Set(["dev", "proc", "sys", "run", "root", "root/.ssh", "newroot"]);
  for (const file of files) {
    for (let folder = dirname(file.path); folder !== "."; folder = dirname(folder)) folders.add(folder);
  }
  return writeCpio([
    // Parents sort before what they hold.
    ...[...folders].sort().map(
      (path): CpioEntry => ({
        type: "directory",
        path,
        mode: path.startsWith("root") ? 0o700 : 0o755,
      }),
    ),
    { type: "device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    ...files,
  ]);
}

function text(path: string, content: string): KitFile {
  return { path, content: Buffer.from(content) };
}
