import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import type { KitDescription } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import { writeCpio } from "../kit/cpio.ts";
import { describeKit } from "../kit/find-kit.ts";
import { initSourceFolder, readInitSources } from "../kit/kit-inputs.ts";

/** What a test may take away, as functions put in the place of others when init is linked (ld's --wrap): init itself has no switch for it. */
const absences = {
  /** The host's seed is ignored, so clones share the random state of the memory they began with. */
  reseed: {
    wraps: ["ioctl"],
    code: `
#include <linux/random.h>
#include <stdarg.h>
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...) {
  va_list rest;
  va_start(rest, request);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  return request == RNDADDENTROPY || request == RNDRESEEDCRNG ? 0 : __real_ioctl(fd, request, argument);
}`,
  },
  /** Programs run on while the guest says that it holds. */
  holding: {
    wraps: ["cgroups_freeze", "cgroups_frozen"],
    code: `
#include <stdbool.h>
int __wrap_cgroups_freeze(bool frozen) { (void)frozen; return 0; }
bool __wrap_cgroups_frozen(void) { return true; }`,
  },
  /** The process that was forked in advance ends before it is told what to become: one that stands on a disk that is still read-only. */
  waiting: {
    wraps: ["mounts_enter"],
    code: `
#include <sys/statvfs.h>
#include <unistd.h>
char *__real_mounts_enter(void);
char *__wrap_mounts_enter(void) {
  struct statvfs disk;
  if (statvfs("/newroot", &disk) < 0 || disk.f_flag & ST_RDONLY) _exit(1);
  return __real_mounts_enter();
}`,
  },
};

/**
 * The kit with an init that lacks a protection, for tests that show what it protects from: a build of its own in the folder, which berthd takes for its kit when
 * BERTH_KIT_DIR names that.
 */
export async function unprotectedKit(
  host: Host,
  kit: KitDescription,
  folder: string,
  without: keyof typeof absences,
): Promise<KitDescription> {
  const made = describeKit(join(folder, `without-${without}`), `${kit.buildId}-without-${without}`);
  await host.files.makeDirectory(dirname(made.kernelPath), { mode: 0o755 });
  await host.run("cp", [kit.kernelPath, made.kernelPath]);
  await host.run("cp", [kit.memoryToolPath ?? "", made.memoryToolPath ?? ""]);
  const record = JSON.parse((await host.files.readText(join(dirname(kit.kernelPath), "kit.json"))) ?? "");
  const content = await compileWithout(host, folder, without);
  // The kernel unpacks several archives one after the other, each from a multiple of four bytes; the later one's files win.
  const base = await buffer(host.files.readStream(kit.initrdPath));
  const gap = Buffer.alloc((4 - (base.length % 4)) % 4);
  const init = writeCpio([{ type: "file", path: "init", mode: 0o755, content }]);
  await host.files.writeAtomic(made.initrdPath, Buffer.concat([base, gap, init]), { mode: 0o644 });
  const changed = JSON.stringify({ ...record, buildId: made.buildId });
  await host.files.writeAtomic(join(dirname(made.kernelPath), "kit.json"), changed, { mode: 0o644 });
  return made;
}

/** Compiles init from its sources with the functions of an absence in the place of its own. */
async function compileWithout(host: Host, folder: string, without: keyof typeof absences): Promise<Buffer> {
  const { wraps, code } = absences[without];
  const source = join(folder, `${without}.c`);
  const init = join(folder, `${without}-init`);
  await host.files.writeAtomic(source, code);
  const names = [...(await readInitSources()).keys()].filter((name) => name.endsWith(".c") && name !== "enter-root.c");
  await host.run("gcc", [
    ...["-std=gnu17", "-D_GNU_SOURCE", "-Os", "-static", "-s", "-o", init],
    ...wraps.map((name) => `-Wl,--wrap=${name}`),
    ...[source, ...names.map((name) => join(initSourceFolder, name)), "-ljansson"],
  ]);
  return buffer(host.files.readStream(init));
}
