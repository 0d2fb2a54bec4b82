import { BerthError, type Instance, type InstanceStart } from "@berth/api";
import { runOf } from "../../core/instance-run.ts";
import type { Driver, Handle } from "../../drivers/driver.ts";
import { growOverlay } from "../../storage/qcow2.ts";
import { readImage } from "../../store/images.ts";
import { lockInstance, readSavedMemory, updateInstance } from "../../store/instances.ts";
import { type Beginning, chooseBeginning } from "../choose-beginning.ts";
import { attachGuest } from "../guest-access.ts";
import { InstanceInput } from "../instance-input.ts";
import { diskPath } from "../instance-paths.ts";
import { settleLeftSwitches } from "../left-switches.ts";
import { instanceMachine } from "../machine-inputs.ts";
import { findHandle } from "../observe-instance.ts";
import { runPorts } from "../run-ports.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, requireHandle, targetInstance } from "./step.ts";

/**
 * Where a test lets the daemon die within the step: each way to begin writes down or removes something before the machine runs. They are listed with an operation that takes
 * that way; any other passes them under its own type.
 */
export const startPoints = [
  "instance.start/begin/configured",
  "instance.start/resume/paused",
  "instance.start/resume/memory-removed",
  "instance.create/go-on/configured",
];

/**
 * Powers the machine on and begins to listen to its guest. A suspended one goes on as it was; any other is made anew of what is wished for now, and goes on from memory
 * where there is some that fits.
 */
export function startMachine(services: Services): InstanceStep {
  const { guests } = services;
  return {
    name: "start-machine",
    async run(context) {
      const instance = await targetInstance(services, context);
      const driver = services.driver(instance.location);
      const handle = await requireHandle(services, instance);
      const network = services.network.prepare();
      network.catch(() => {}); // it is waited for below, once what does not need it is done
      const isSuspended = (await services.folders.memoryBytes(instance.id)) !== null;
      const isOff = !isSuspended && (await driver.inspect(handle)).power === "stopped";
      if (isOff) await settleLeftSwitches(services, instance);
      const { signal } = context;
      const pass = (part: string) => services.faults.pass(`${context.operation.type}/${part}`, signal);
      const awaited = { network, signal, pass };
      const begun = isOff ? await begin(services, instance, driver, handle, awaited) : undefined;
      if (isSuspended) await resume(services, instance, driver, handle, awaited);
      else if (!isOff) await goOn(services, instance, driver, handle, awaited);
      // What was heard of an earlier run is of no use for this one.
      guests.detach(instance.id);
      await attachGuest(services, instance, driver, handle);
      const { startedAt } = await driver.inspect(handle);
      const { restartGeneration } = InstanceInput.parse(context.operation.input);
      return {
        write: async (tx) => {
          const current = await lockInstance(tx, instance.id);
          if (!current) return;
          const began = startedAt === null ? null : new Date(startedAt).toISOString();
          // One that goes on is still of the generation that it was started for.
          const generation = isSuspended ? {} : { restartGeneration };
          const off = { exitCode: null, reason: "", memoryBytes: null };
          const status = { ...current.status, ...generation, ...off, startedAt: began };
          // From here on its disks are of another moment than any memory kept for it.
          const saved = await readSavedMemory(tx, instance.id);
          await updateInstance(tx, instance.id, { status, ...(saved ? { memory: { ...saved, used: true } } : {}) });
          await begun?.record?.(tx);
        },
      };
    },
    async undo(context) {
      const instance = await targetInstance(services, context);
      const handle = await findHandle(services, instance);
      if (handle && (await hasResumed(services, instance, handle))) return;
      guests.detach(instance.id);
      if (handle) await services.driver(instance.location).powerOff(handle);
      await standInAgain(services, instance);
    },
  };
}

/** What a machine waits for before it runs, and what cuts that short. */
interface Awaited {
  /** Its network's protection, which is put in place meanwhile. */
  readonly network: Promise<void>;
  readonly signal: AbortSignal;
  /** Passes one of `startPoints`. */
  pass(part: string): Promise<void>;
}

/**
 * Lets a suspended machine go on. It stands still until its memory is removed: from the moment it runs, its disks move on, and the memory of before must never be used again.
 */
async function resume(
  services: Services,
  instance: Instance,
  driver: Driver,
  handle: Handle,
  { network, signal, pass }: Awaited,
): Promise<void> {
  const { folders, standIns } = services;
  const memory = { folder: folders.memoryPath(instance.id), use: "own" } as const;
  if (standIns.holds(instance.id)) await standIns.divert(instance.id, await runPorts(services, instance));
  await writeDown(services, instance.id, { start: { mode: "resumed", reason: "" } });
  await network;
  if ((await driver.inspect(handle)).power === "stopped") await driver.start(handle, signal, { memory, paused: true });
  await pass("resume/paused");
  await folders.removeMemory(instance.id);
  await pass("resume/memory-removed");
  await driver.start(handle, signal);
}

/** Whether it runs on from its own memory, which is gone: that cannot be taken back without losing what was in it. */
async function hasResumed(services: Services, instance: Instance, handle: Handle): Promise<boolean> {
  if (instance.status.start?.mode !== "resumed" || (await services.folders.memoryBytes(instance.id)) !== null)
    return false;
  return (await services.driver(instance.location).inspect(handle)).power === "running";
}

/** Has berthd take the connections of one that sleeps on. */
async function standInAgain(services: Services, instance: Instance): Promise<void> {
  const { folders, standIns } = services;
  if (!standIns.holds(instance.id) || (await folders.memoryBytes(instance.id)) === null) return;
  // The same as when it fell asleep: it is tried again as long as it sleeps.
  await standIns.own(instance.id, await runPorts(services, instance)).catch(() => undefined);
}

/** Lets a paused machine go on as it was started; one from a pool becomes what the instance wishes for. */
async function goOn(
  services: Services,
  instance: Instance,
  driver: Driver,
  handle: Handle,
  { network, signal, pass }: Awaited,
): Promise<void> {
  const { start, restartGeneration } = instance.status;
  if (start?.mode === "pool" && restartGeneration === null) {
    const run = runOf(instance);
    await writeDown(services, instance.id, { run, start });
    await driver.configure(handle, await instanceMachine(services, instance, run));
    await pass("go-on/configured");
    await growDisks(services, instance, driver, handle);
    await network;
    await driver.start(handle, signal);
    if (run.ports.length > 0) await driver.publish?.(handle, run.ports);
    return;
  }
  await network;
  await driver.start(handle, signal);
}

/** Powers the machine on from what fits it best, or from what is to be had instead when that is unusable; answers with what it was. */
async function begin(
  services: Services,
  instance: Instance,
  driver: Driver,
  handle: Handle,
  { network, signal, pass }: Awaited,
): Promise<Beginning> {
  const run = runOf(instance);
  let beginning = await chooseBeginning(services, instance);
  await writeDown(services, instance.id, { run, start: beginning.start });
  await driver.configure(handle, await instanceMachine(services, instance, run));
  await pass("begin/configured");
  await growFiles(services, instance);
  await network;
  for (;;) {
    try {
      await driver.start(handle, signal, beginning.memory ? { memory: beginning.memory } : {});
      return beginning;
    } catch (error) {
      const unusable = error instanceof BerthError && error.code === "memory_unusable";
      if (!unusable || !beginning.instead) throw error;
      beginning = await beginning.instead(error);
      await writeDown(services, instance.id, { start: beginning.start });
    }
  }
}

/** A run is written down before it begins: should the daemon die meanwhile, what the guest and people are told later still fits the machine. */
async function writeDown(
  { store }: Services,
  id: string,
  { run, start }: { readonly run?: ReturnType<typeof runOf>; readonly start: InstanceStart },
): Promise<void> {
  await store.transaction(async (tx) => {
    const current = await lockInstance(tx, id);
    if (current) await updateInstance(tx, id, { ...(run ? { run } : {}), status: { ...current.status, start } });
  });
}

/** Makes the disks of a machine that is off as large as they are to be. */
async function growFiles({ folders, host }: Services, { id, spec }: Instance): Promise<void> {
  const found = await folders.find(id);
  if (!found) return;
  for (const { name, sizeMib } of spec.disks)
    await growOverlay(host, diskPath(found.vmPath, name), sizeMib, found.user);
}

/** Makes the disks of a machine from a pool as large as they are to be; none is smaller than its image. */
async function growDisks(
  { images, store }: Services,
  { imageId, spec }: Instance,
  driver: Driver,
  handle: Handle,
): Promise<void> {
  const digest = (await readImage(store.queries, imageId))?.contentDigest;
  const least = (digest && (await images.findArtifact(digest))?.minDiskMib) || 0;
  for (const { name, sizeMib } of spec.disks) await driver.growDisk?.(handle, name, Math.max(sizeMib, least));
}
