import { dirname } from "node:path";
import { buffer } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { BerthError } from "@berth/api";
import { z } from "zod";
import type { KitDescription } from "../../core/descriptions.ts";
import { type Host, isNoSpace } from "../../host/host.ts";
import type { CreateInputs, Paused, SaveMemoryRequest } from "../driver.ts";
import {
  type MemoryImage,
  memoryPaths,
  momentPassed,
  readMemoryImage,
  requestOf,
  sha256,
  shapeOf,
} from "../memory-image.ts";
import type { Accelerator } from "./accelerator.ts";
import { gate, memoryBytes } from "./command-line.ts";
import {
  activeFiles,
  commitSwitches,
  dropOverlays,
  type PreparedSwitch,
  prepareSwitches,
  queryDisks,
} from "./disks.ts";
import type { Machine } from "./machine.ts";
import { sumMemory } from "./memory-tool.ts";
import { isNotYet, type Qmp, QmpError } from "./qmp.ts";
import { siblingWords, startSibling, untilMigration } from "./sibling.ts";

/** What memory is saved with. */
export interface SaveParts {
  readonly host: Host;
  readonly machine: Machine;
  readonly qemu: string;
  readonly accelerator: Accelerator;
  /** `Driver.memoryBuild` for a kit. */
  readonly build: (kit: KitDescription | null) => Promise<string>;
}

/** So little is left to copy that the vCPUs need not stand still for long. */
const quietBytes = 4 * 1024 * 1024;
/** How long a guest that writes faster than it is copied is waited for once all was copied; then again, while its programs are held. */
const patienceMs = 3_000;
const heldPatienceMs = 800;
/** From the guest's answer that it holds to its vCPUs' standing still: soon afterwards it lets go by itself (`SaveMemoryRequest.beforePause`). */
const heldForMs = 1_500;
const lookEveryMs = 10;
/** From being allowed to until it does. */
const standStillTimeoutMs = 60_000;
/** Ample: gigabytes on a busy node. */
const saveTimeoutMs = 600_000;
/** The devices' state of any machine is far smaller. */
const maxStateBytes = 64 * 1024 * 1024;
/** Less than this left on the disk: it was full. */
const fullBytes = 16 * 1024 * 1024;

/** How a migration goes (`query-migrate`, qapi/migration.json). */
const Progress = z.looseObject({
  status: z.string(),
  ram: z.looseObject({ remaining: z.number(), "dirty-sync-count": z.number() }).optional(),
});

/**
 * Saves the memory of a running machine as docs/adr/memory-images.md has it. It takes QEMU's second monitor for as long as it lasts. Whatever fails, the machine runs on and its
 * sibling and half an image are removed.
 */
export async function saveMemory(parts: SaveParts, request: SaveMemoryRequest, signal: AbortSignal): Promise<Paused> {
  const { host, machine } = parts;
  const record = await machine.record();
  if (!record) throw notRunning();
  await machine.endSibling();
  const done = await doneBefore(parts, request);
  if (done) return done;
  if (!(await machine.hypervisor())) throw notRunning();
  const { inputs } = record;
  if (!inputs.kit)
    throw new BerthError("unsupported_by_driver", "Only machines that boot a kit have their memory saved.");
  if (["paused", "prelaunch", "inmigrate"].includes(await machine.status())) throw notRunning("paused");
  await machine.goOn(); // one that a killed daemon left standing still
  const limit = AbortSignal.any([signal, AbortSignal.timeout(saveTimeoutMs)]);
  const half = `${request.folder}.half`;
  let refusal: unknown;
  const beforePause = async () => {
    try {
      await request.beforePause();
    } catch (error) {
      refusal = error;
      throw error;
    }
  };
  const qmp = await machine.connect("work", limit).catch((cause: unknown) => {
    if (!isNotYet(cause)) throw cause;
    const detail = "An older berthd started the machine, in a way that its memory cannot be saved: restart it.";
    throw new BerthError("host_program_failed", detail, { cause });
  });
  try {
    const options = { request: { ...request, beforePause }, half, qmp, signal: limit };
    return await new Save(parts, inputs, options).run(inputs.kit);
  } catch (error) {
    signal.throwIfAborted();
    throw error === refusal ? error : asBerthError(error, await host.files.freeBytes(dirname(request.folder)));
  } finally {
    qmp.close();
    await machine.endSibling();
    await host.files.remove(half);
  }
}

/** Finds what an earlier call did that a crash cut off; undefined when the memory is still to be saved. */
async function doneBefore({ host, machine }: SaveParts, request: SaveMemoryRequest): Promise<Paused | undefined> {
  const image = await readMemoryImage(host.files, request.folder);
  if (image?.request !== requestOf(request.switches)) return undefined;
  const isRunning = (await machine.hypervisor()) !== undefined;
  // Saved, and not a moment older: it stands still since, or is off.
  const stands = !isRunning || (await machine.status()) === "postmigrate";
  if (request.switches.length === 0 && (request.afterwards !== "off" || !stands)) return undefined;
  if (request.afterwards === "off") await machine.powerOff();
  else if (isRunning) await machine.goOn();
  return { pausedMs: image.pausedMs };
}

/** One save, from the sibling's start to the whole image. */
class Save {
  readonly #parts: SaveParts;
  readonly #inputs: CreateInputs;
  readonly #request: SaveMemoryRequest;
  readonly #half: string;
  /** The machine's own monitor. */
  readonly #qmp: Qmp;
  readonly #signal: AbortSignal;

  constructor(
    parts: SaveParts,
    inputs: CreateInputs,
    options: { request: SaveMemoryRequest; half: string; qmp: Qmp; signal: AbortSignal },
  ) {
    this.#parts = parts;
    this.#inputs = inputs;
    this.#request = options.request;
    this.#half = options.half;
    this.#qmp = options.qmp;
    this.#signal = options.signal;
  }

  async run(kit: KitDescription): Promise<Paused> {
    const { machine } = this.#parts;
    const { todo, done } = await prepareSwitches(
      this.#parts.host,
      this.#qmp,
      this.#inputs.disks,
      this.#request.switches,
    );
    if (done > 0) {
      await dropOverlays(
        this.#qmp,
        todo.map(({ to }) => to),
      );
      throw momentPassed();
    }
    let switched = false;
    try {
      const sibling = await this.#startSibling();
      try {
        await this.#copy();
        await this.#switchOver(todo);
        switched = true;
        let resumedAt = this.#handedOverAt();
        if (this.#request.afterwards === "resume") {
          await machine.goOn();
          resumedAt = await this.#resumedAt();
          this.#request.afterPause?.();
        }
        const pausedMs = resumedAt - this.#stoppedAt();
        await untilMigration(sibling, "completed", this.#signal);
        await this.#writeState(sibling);
        await machine.endSibling();
        await this.#finish(kit, pausedMs);
        if (this.#request.afterwards === "off") await machine.powerOff();
        return { pausedMs };
      } finally {
        sibling.close();
      }
    } catch (error) {
      if (await machine.hypervisor()) await this.#letGoOn(switched ? [] : todo);
      throw error;
    }
  }

  /** Makes the file that becomes the memory, and the QEMU that fills it. */
  async #startSibling(): Promise<Qmp> {
    const { host, machine, qemu, accelerator } = this.#parts;
    const inputs = this.#inputs;
    const ramPath = memoryPaths(this.#half).ram;
    await host.files.remove(this.#half);
    await host.files.makeDirectory(this.#half, { mode: 0o700 });
    await host.files.makeSparse(ramPath, memoryBytes(inputs.memoryMib), { mode: 0o600, ...inputs.user });
    const diskBytes = (await queryDisks(this.#qmp, inputs.disks)).map(({ bytes }) => bytes);
    const { paths } = machine;
    const signal = this.#signal;
    const sibling = await startSibling({ host, qemu, accelerator, inputs, paths, ramPath, diskBytes, signal });
    await setCapabilities(sibling, { events: true, "dirty-bitmaps": true });
    return sibling;
  }

  /**
   * Copies the memory until little is left of it, while the machine runs; has its programs held, and copies what they wrote last. QEMU would stop the machine as soon as it thinks it
   * can; it must not before its programs are held. So there is a gate: an empty bitmap of a node that is nothing, of which QEMU thinks that it takes longer to hand over than the machine
   * may stand still, until it may stand still for long.
   */
  async #copy(): Promise<void> {
    const qmp = this.#qmp;
    // One that went on from memory itself read that without its memory (`Machine.start`); now it hands over all.
    const capabilities = {
      events: true,
      "pause-before-switchover": true,
      "dirty-bitmaps": true,
      "x-ignore-shared": false,
    };
    await setCapabilities(qmp, capabilities);
    await qmp.execute("migrate-set-parameters", { "downtime-limit": 1, "max-bandwidth": unlimited });
    await closeGate(qmp);
    const uri = `unix:${this.#parts.machine.paths.siblingSockets.hop}`;
    await qmp.execute("migrate", { uri });
    await this.#untilFirstPass();
    await this.#untilQuiet(2, patienceMs);
    await this.#writeBack();
    await this.#request.beforePause();
    const held = AbortSignal.timeout(heldForMs);
    this.#signal.throwIfAborted();
    await this.#copyHeld();
    await qmp.execute("migrate-set-parameters", { "downtime-limit": maxDowntimeMs });
    // From here until it stands still it must not be given up: QEMU 7.2 waits for ever when a migration is cancelled in the moment before.
    await untilMigration(qmp, "pre-switchover", AbortSignal.timeout(standStillTimeoutMs));
    this.#signal.throwIfAborted();
    if (held.aborted) throw tooBusy();
  }

  /** One more round while the programs are held, and the disks' last writes: neither takes longer than there is time. */
  async #copyHeld(): Promise<void> {
    const since = performance.now();
    const written = this.#writeBack();
    written.catch(() => {});
    await this.#untilQuiet((await this.#progress()).passes + 1, heldPatienceMs);
    const leftMs = Math.max(0, heldPatienceMs - (performance.now() - since));
    await Promise.race([written, delay(leftMs, undefined, { signal: this.#signal })]);
  }

  /** While nothing runs: the disks are switched, and the rest of the memory and the devices are handed over. */
  async #switchOver(switches: readonly PreparedSwitch[]): Promise<void> {
    await commitSwitches(this.#parts.host, this.#qmp, switches);
    await this.#qmp.execute("migrate-continue", { state: "pre-switchover" });
    await untilMigration(this.#qmp, "completed", this.#signal);
  }

  /** However long it takes: the machine runs meanwhile. */
  async #untilFirstPass(): Promise<void> {
    while ((await this.#progress()).passes < 2) await delay(lookEveryMs, undefined, { signal: this.#signal });
  }

  /** Waits until so many passes were made over the memory and little is left, or that took too long. */
  async #untilQuiet(passes: number, limitMs: number): Promise<void> {
    const since = performance.now();
    for (;;) {
      const { remaining, passes: made } = await this.#progress();
      if ((made >= passes && remaining <= quietBytes) || performance.now() - since > limitMs) return;
      await delay(lookEveryMs, undefined, { signal: this.#signal });
    }
  }

  /** How many passes were begun over the memory, and how many bytes are left of this one. */
  async #progress(): Promise<{ passes: number; remaining: number }> {
    const { status, ram } = Progress.parse(await this.#qmp.execute("query-migrate"));
    if (status !== "active" && status !== "setup") {
      const words = await siblingWords(this.#parts.host, this.#parts.machine.paths);
      throw new Error(`The memory could not be copied (${status}): ${words}`);
    }
    return { passes: ram?.["dirty-sync-count"] ?? 0, remaining: ram?.remaining ?? Number.POSITIVE_INFINITY };
  }

  /** Has the host write back what the disks hold in its memory, so that QEMU has little to wait for when it flushes them in the pause. */
  async #writeBack(): Promise<void> {
    const { host } = this.#parts;
    const files = Object.values(await activeFiles(host, this.#qmp, this.#inputs.disks));
    await Promise.all(files.map((file) => host.files.sync(file)));
  }

  /** The sibling writes down the devices, without the memory that is in its file. */
  async #writeState(sibling: Qmp): Promise<void> {
    const { host, machine } = this.#parts;
    const path = machine.paths.stateSocket;
    await host.files.remove(path);
    const listener = await host.listen(path, this.#inputs.user);
    try {
      await setCapabilities(sibling, { "dirty-bitmaps": false, "x-ignore-shared": true });
      await sibling.execute("migrate", { uri: `unix:${path}` });
      const written = untilMigration(sibling, "completed", this.#signal);
      const stream = await Promise.race([
        listener.accept(this.#signal),
        written.then(() => listener.accept(this.#signal)),
      ]);
      let bytes = 0;
      stream.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > maxStateBytes) stream.destroy(new Error("The devices' state has no end"));
      });
      const state = await buffer(stream);
      await written;
      await host.files.writeAtomic(memoryPaths(this.#half).state, state, { mode: 0o400 });
    } finally {
      await listener.close();
      await host.files.remove(path);
    }
  }

  /** Makes the image whole: checksums, owners, and its record at last. */
  async #finish(kit: KitDescription, pausedMs: number): Promise<void> {
    const { host, build } = this.#parts;
    const { files } = host;
    const { folder, use, switches, passing = false } = this.#request;
    const paths = memoryPaths(this.#half);
    // Pages of zeroes that the guest has touched are written like any others; they need no room.
    if (!passing) await host.run("fallocate", ["--dig-holes", paths.ram], { signal: this.#signal });
    if (use === "shared") {
      const { uid, gid } = await host.facts();
      await files.chown(paths.ram, uid, gid);
      await files.chmod(paths.ram, 0o400);
    }
    const [state, checksum] = await Promise.all([
      buffer(files.readStream(paths.state)),
      sumMemory(host, kit, paths.ram, this.#signal),
      passing ? undefined : files.sync(paths.ram),
    ]);
    const image: MemoryImage = {
      version: 1,
      ...shapeOf(this.#inputs, await build(kit)),
      savedAt: Date.now(),
      pausedMs,
      request: requestOf(switches),
      ram: { bytes: memoryBytes(this.#inputs.memoryMib), checksum },
      state: { bytes: state.length, checksum: sha256(state) },
    };
    await files.writeAtomic(paths.record, JSON.stringify(image), { passing });
    await files.remove(folder);
    await files.rename(this.#half, folder);
    if (!passing) await files.sync(dirname(folder));
  }

  /** Has the machine run on, whatever was begun. */
  async #letGoOn(switches: readonly PreparedSwitch[]): Promise<void> {
    const qmp = this.#qmp;
    await qmp.execute("migrate_cancel");
    await this.#parts.machine.goOn();
    await dropOverlays(
      qmp,
      switches.map(({ to }) => to),
    );
    await openGate(qmp);
  }

  /** When the vCPUs last stood still. */
  #stoppedAt(): number {
    return this.#qmp.events("STOP").at(-1)?.atMs ?? Number.NaN;
  }

  #handedOverAt(): number {
    return this.#qmp.events("MIGRATION").at(-1)?.atMs ?? Number.NaN;
  }

  async #resumedAt(): Promise<number> {
    const { atMs } = await this.#qmp.until(() => this.#qmp.events("RESUME").at(-1), this.#signal);
    await openGate(this.#qmp);
    return atMs;
  }
}

/** Bytes a second. */
const unlimited = 1024 ** 4;
/** The longest that QEMU takes. */
const maxDowntimeMs = 2_000_000;

async function setCapabilities(qmp: Qmp, wanted: Readonly<Record<string, boolean>>): Promise<void> {
  const capabilities = Object.entries(wanted).map(([capability, state]) => ({ capability, state }));
  await qmp.execute("migrate-set-capabilities", { capabilities });
}

async function closeGate(qmp: Qmp): Promise<void> {
  await openGate(qmp);
  await qmp.execute("blockdev-add", {
    driver: "null-co",
    "node-name": gate.node,
    size: gate.bytes,
    "read-zeroes": true,
  });
  await qmp.execute("block-dirty-bitmap-add", { node: gate.node, name: gate.node, granularity: gate.granularity });
}

/** Takes the gate away; one that is not there is no matter. */
async function openGate(qmp: Qmp): Promise<void> {
  await qmp.execute("blockdev-del", { "node-name": gate.node }).catch((error: unknown) => {
    if (!(error instanceof QmpError)) throw error;
  });
}

function tooBusy(cause?: unknown): BerthError {
  const detail = "The machine did not stand still as long as its programs were held: the node is too busy. Try again.";
  return new BerthError("host_program_failed", detail, { cause });
}

function notRunning(what = "off"): BerthError {
  return new BerthError("instance_not_running", `The machine is ${what}.`);
}

/** What went wrong, for people; a disk with next to nothing left was full when it did. */
function asBerthError(error: unknown, freeBytes: number): Error {
  if (error instanceof BerthError) return error;
  if (freeBytes < fullBytes || isNoSpace(error))
    return new BerthError("disk_full", "The disk is full: the memory was not saved.", { cause: error });
  if (error instanceof QmpError) return new BerthError("host_program_failed", error.message, { cause: error });
  if ((error as Error).name === "TimeoutError") return tooBusy(error);
  return error as Error;
}
