import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { KitDescription } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import { describeKit, readKit } from "./find-kit.ts";
import { compileInit, compileMemoryTool, packInitramfs } from "./initramfs.ts";
import { fetchKernel } from "./kernel.ts";
import { collectInputs, hashSources } from "./kit-inputs.ts";

export interface BuildKitOptions {
  /** The folder that holds all builds, one in a folder each. */
  readonly kitRoot: string;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

/**
 * Makes the guest kit from the host's packages, without root; nothing is done when the same inputs were built before. A build that is
 * broken off leaves nothing that counts. Throws ProgramError, or BerthError `host_program_failed` for a missing package.
 */
export async function buildKit(host: Host, { kitRoot, signal, log }: BuildKitOptions): Promise<KitDescription> {
  const inputs = await collectInputs(host, signal);
  const folder = join(kitRoot, inputs.buildId);
  if (await readKit(host, folder)) return describeKit(folder, inputs.buildId);

  const scratch = join(kitRoot, `.new-${randomBytes(6).toString("hex")}`);
  const made = join(scratch, "made");
  await host.files.makeDirectory(kitRoot);
  await host.files.makeDirectory(scratch);
  await host.files.makeDirectory(made);
  try {
    log(`guest kit: fetching ${inputs.kernel.package}`);
    const [kernel, compiled] = await Promise.all([
      fetchKernel(host, inputs.kernel, scratch, signal),
      compileInit(host, scratch, signal),
      compileMemoryTool(host, join(made, "memory-file"), signal),
    ]);
    log("guest kit: packing the initramfs");
    await host.files.writeAtomic(join(made, "vmlinuz"), kernel.image, { mode: 0o644 });
    await host.files.writeAtomic(join(made, "initrd.img"), packInitramfs(compiled, kernel.modules, inputs.files), {
      mode: 0o644,
    });
    const record = {
      buildId: inputs.buildId,
      sourcesId: await hashSources(),
      kernel: inputs.kernel,
      builtAt: new Date().toISOString(),
    };
    await host.files.writeAtomic(join(made, "kit.json"), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o644 });
    await rename(host, made, folder);
  } finally {
    await host.files.remove(scratch);
  }
  log(`guest kit: ${inputs.buildId} is ready`);
  return describeKit(folder, inputs.buildId);
}

/** Another process may have finished the same build first: then that one is used. */
async function rename(host: Host, from: string, to: string): Promise<void> {
  try {
    await host.files.renameSynced(from, to);
  } catch (error) {
    if (!(await readKit(host, to))) throw error;
  }
}
