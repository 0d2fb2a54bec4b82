import { setTimeout as delay } from "node:timers/promises";
import { BerthError } from "@berth/api";
import type { PortForward } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import type { DiskSwitch, Driver, Handle, SaveMemoryRequest } from "../driver.ts";
import { momentPassed, readMemoryImage, requestOf, shapeOf } from "../memory-image.ts";
import { isOn, type KnobName, type Knobs, mayPass, numberOf } from "./knobs.ts";
import { isHeld, isPoweredOn, type MachineRecord, type Overlay, type Run } from "./machine.ts";
import { growDiskFile, writeMemory } from "./memory.ts";
import type { World } from "./world.ts";

/** What of the fake driver the changes of running machines work with. */
export interface FakeParts {
  readonly host: Pick<Host, "files"> & Partial<Pick<Host, "run">>;
  readonly world: World;
  /** The machine of a handle with all its knobs, after the call was counted; undefined when there is none. */
  enterById(handle: Handle, call?: KnobName): Promise<{ record: MachineRecord; knobs: Knobs } | undefined>;
  refuseTakenPorts(record: MachineRecord, forwards: readonly PortForward[]): Promise<void>;
  powerOff(handle: Handle): Promise<void>;
  settle(): Promise<unknown>;
  /** What memory depends on beside sizes and counts. */
  build(kitBuildId: string | null): string;
}

/** What every fake machine takes of nobody's memory. */
const fakeMemoryBytes = 40 * 2 ** 20;

type Changes = Required<
  Pick<
    Driver,
    | "memoryBuild"
    | "saveMemory"
    | "switchDisks"
    | "activeDisks"
    | "growDisk"
    | "publish"
    | "openConnections"
    | "pause"
    | "memoryUsed"
  >
>;

/** What can be done to a machine while it runs. */
export function runningChanges(parts: FakeParts): Changes {
  const { host, world } = parts;
  const { files } = host;

  async function requireRunning(handle: Handle, call?: KnobName) {
    const found = await parts.enterById(handle, call);
    if (!found || !isPoweredOn(found.record) || !found.record.run) throw notRunning();
    return { ...found, run: found.record.run };
  }

  /** The overlays, each with what tells it from others. */
  async function overlaysOf(record: MachineRecord, switches: readonly DiskSwitch[]): Promise<Record<string, Overlay>> {
    const found: Record<string, Overlay> = {};
    for (const { disk, overlayPath } of switches) {
      if (!record.disks.some(({ name }) => name === disk)) {
        throw new BerthError("invalid_request", `The machine has no disk ${disk}.`);
      }
      const identity = await files.identity(overlayPath);
      if (!identity) throw new BerthError("host_program_failed", `The overlay of the disk ${disk} is not there.`);
      found[disk] = { path: overlayPath, identity };
    }
    return found;
  }

  /** Changes the run of a machine that still runs; rejects when it does not any more. */
  async function changeRun(record: MachineRecord, change: (run: Run) => Run): Promise<void> {
    await world.change(record.id, (current) => {
      if (!current?.run || !isPoweredOn(current)) throw notRunning();
      return { ...current, run: change(current.run) };
    });
    await parts.settle();
  }

  const switched = (run: Run, overlays: Readonly<Record<string, Overlay>>): Run => ({
    ...run,
    overlays: { ...run.overlays, ...overlays },
  });

  /** Whether an earlier call did all this one asks for: the answer got lost, or what came after it failed. */
  async function doneBefore(record: MachineRecord, request: SaveMemoryRequest): Promise<number | undefined> {
    const image = await readMemoryImage(files, request.folder);
    const isOff = !isPoweredOn(record);
    const counts = request.switches.length > 0 || (request.afterwards === "off" && isOff);
    return counts && image?.request === requestOf(request.switches) ? image.pausedMs : undefined;
  }

  async function save(handle: Handle, request: SaveMemoryRequest, signal: AbortSignal): Promise<number> {
    const found = await parts.enterById(handle, "save-memory-error");
    if (!found) throw notRunning();
    const { record, knobs } = found;
    const done = await doneBefore(record, request);
    if (done !== undefined) return done;
    if (!isPoweredOn(record) || !record.run) throw notRunning();
    const overlays = await overlaysOf(record, request.switches);
    const isActive = ([disk, { identity }]: [string, Overlay]) => record.run?.overlays[disk]?.identity === identity;
    if (Object.entries(overlays).some(isActive)) throw momentPassed();
    const block = numberOf(knobs, "save-memory-block");
    if (block !== undefined) await delay(Math.min(block, 2 ** 31 - 1), undefined, { signal });
    signal.throwIfAborted();
    await request.beforePause();
    signal.throwIfAborted();
    const before = performance.now();
    let moment: { run: Run; at: number } | undefined;
    await changeRun(record, (run) => {
      const next = switched(run, overlays);
      moment = { run: next, at: Date.now() };
      return next;
    });
    const pausedMs = performance.now() - before;
    if (request.afterwards === "resume") request.afterPause?.();
    const losses = numberOf(knobs, "lose-memory");
    if (losses !== undefined && (await world.count(record.owner, "lose-memory")) <= losses) {
      throw new BerthError("host_program_failed", "The fake hypervisor lost the memory half way: lose-memory.");
    }
    if (!moment) throw notRunning();
    const { run, at } = moment;
    const saved = { ...run, stoodSince: run.stoodSince ?? at, held: isHeld(run, at) ? run.held : null };
    await writeMemory(files, request, {
      memory: { run: saved, files: await world.readFiles(record.id) },
      shape: shapeOfRecord(record, parts.build(record.kitBuildId)),
      pausedMs,
      damage: isOn(knobs, "memory-damaged"),
    });
    return pausedMs;
  }

  return {
    memoryBuild: async (inputs) => parts.build(inputs.kit?.buildId ?? null),

    async saveMemory(handle, request, signal) {
      const pausedMs = await save(handle, request, signal);
      if (request.afterwards === "off") await parts.powerOff(handle);
      const found = await parts.enterById(handle);
      const losses = found && numberOf(found.knobs, "lose-saved");
      if (found && losses !== undefined && (await world.count(found.record.owner, "lose-saved")) <= losses) {
        throw mayPass(new BerthError("host_program_failed", "The answer of the fake hypervisor got lost: lose-saved."));
      }
      return { pausedMs };
    },

    async switchDisks(handle, switches) {
      const { record } = await requireRunning(handle, "switch-disks-error");
      const overlays = await overlaysOf(record, switches);
      await changeRun(record, (run) => switched(run, overlays));
    },

    async activeDisks(handle) {
      const { record, run } = await requireRunning(handle);
      const active: Record<string, string> = {};
      for (const { name, path } of record.disks) {
        const overlay = run.overlays[name];
        const isRenamed = overlay !== undefined && (await files.identity(path)) === overlay.identity;
        active[name] = overlay && !isRenamed ? overlay.path : path;
      }
      return active;
    },

    async growDisk(handle, name, sizeMib) {
      const { record, run } = await requireRunning(handle, "grow-disk-error");
      const disk = record.disks.find((each) => each.name === name);
      if (!disk) throw new BerthError("invalid_request", `The machine has no disk ${name}.`);
      const overlay = run.overlays[name];
      const path = overlay && (await files.exists(overlay.path)) ? overlay.path : disk.path;
      if (!host.run) throw new Error("This fake was made without a host that runs programs");
      await growDiskFile({ run: host.run }, { path, format: overlay ? "qcow2" : disk.format }, sizeMib);
    },

    async publish(handle, forwards) {
      const { record } = await requireRunning(handle);
      if (record.interfaces !== 1)
        throw new BerthError("unsupported_by_driver", "Only the ports of a machine with one interface can be changed.");
      await world.change(record.id, async (current) => {
        if (!current?.run || !isPoweredOn(current)) throw notRunning();
        await parts.refuseTakenPorts(current, forwards);
        return { ...current, run: { ...current.run, forwards } };
      });
      await parts.settle();
    },

    async pause(handle) {
      const { record } = await requireRunning(handle);
      await changeRun(record, (run) => ({ ...run, paused: true, stoodSince: run.stoodSince ?? Date.now() }));
    },

    async memoryUsed(handle) {
      const found = await parts.enterById(handle);
      return found && isPoweredOn(found.record) ? fakeMemoryBytes : undefined;
    },

    async openConnections(handle) {
      const found = await parts.enterById(handle);
      const run = found?.record.run;
      if (!found || !run || !isPoweredOn(found.record)) return 0;
      const idleAt = run.startedAt + (numberOf(found.knobs, "idle-after") ?? Number.POSITIVE_INFINITY);
      return Date.now() < idleAt ? (numberOf(found.knobs, "connections") ?? 0) : 0;
    },
  };
}

/** What a machine's memory must fit. */
export function shapeOfRecord(record: MachineRecord, build: string) {
  const { cpus, memoryMib, disks, interfaces } = record;
  return shapeOf({ cpus, memoryMib, disks, nics: { length: interfaces } }, build);
}

function notRunning(): BerthError {
  return new BerthError("instance_not_running", "The fake machine is off.");
}
