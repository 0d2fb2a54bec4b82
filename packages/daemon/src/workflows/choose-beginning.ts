import { BerthError, type Instance, type InstanceStart, type Template } from "@berth/api";
import { chooseStart } from "../core/choose-start.ts";
import { volumesDisk } from "../core/volumes.ts";
import type { MemorySource } from "../drivers/driver.ts";
import { isUntouched } from "../storage/qcow2.ts";
import { readImage } from "../store/images.ts";
import { readSavedMemory, type SavedMemory } from "../store/instances.ts";
import { findPoolWith } from "../store/pools.ts";
import type { Transaction } from "../store/store.ts";
import { countTemplateUse, findTemplate, type TemplatePlace } from "../store/templates.ts";
import { dropTemplate } from "./delete-template.ts";
import { diskFile, diskPath } from "./instance-paths.ts";
import type { Services } from "./services.ts";
import { templatePlace } from "./template-place.ts";

/** What a machine that is powered on begins from. */
export interface Beginning {
  /** The memory it goes on from; it boots without. */
  readonly memory?: MemorySource;
  /** What the status says of it. */
  readonly start: InstanceStart;
  /** What else is written down once it has begun. */
  record?(tx: Transaction): Promise<void>;
  /** What it begins from instead, when that memory turns out to be unusable. Rejects when nothing else will do. */
  instead?(error: BerthError): Promise<Beginning>;
}

/**
 * What an instance's machine begins from now: memory of the moment its disks are of, where it is to go on from that; memory of a template of its shape where there is one and it may;
 * else nothing. Changes nothing.
 */
export async function chooseBeginning(services: Services, instance: Instance): Promise<Beginning> {
  const { store, templates } = services;
  const saved = await readSavedMemory(store.queries, instance.id);
  if (saved && !saved.used) return goingOn(services, instance, saved);
  const digest = (await readImage(store.queries, instance.imageId))?.contentDigest;
  const place = digest ? await templatePlace(services, instance, digest) : undefined;
  const found = place && (await findTemplate(store.queries, place));
  const choice = chooseStart({
    policy: instance.spec.warm,
    able: place !== undefined,
    untouched: await areUntouched(services, instance, found?.template),
    first: instance.status.restartGeneration === null,
    template: found?.template,
  });
  if ("refuse" in choice) throw choice.refuse;
  if (choice.from === "boot") return booted(choice.reason);
  const { from: id } = choice;
  const reason = `${choice.reason}${await whyNoPool(services, instance, place)}`;
  return {
    memory: { folder: templates.memoryPath(id), use: "shared" },
    start: { mode: "warm", reason },
    record: (tx) => countTemplateUse(tx, id),
    instead: async (error) => {
      await dropTemplate(services, id, instance.id);
      if (instance.spec.warm !== "auto") throw error;
      return booted(`its template ${id} could not be gone on from and is dropped: ${error.message}`);
    },
  };
}

/** On from the memory of a snapshot or a fork, as long as the disks are those of that moment. What cannot boots instead, and says so; but a child of a fork is none without. */
async function goingOn(services: Services, instance: Instance, { folder, origin }: SavedMemory): Promise<Beginning> {
  const { snapshotFolders: folders } = services;
  const mode = origin.kind === "fork" ? "forked" : "restored";
  if (!(await standOn(services, instance, folder))) {
    const why = "its disk has been written to since the moment its memory is of";
    if (mode === "forked") throw new BerthError("memory_unusable", `It cannot go on as a child: ${why}.`);
    return booted(why);
  }
  const beginning: Beginning = {
    memory: { folder: folders.memoryPath(folder), use: "shared" },
    start: { mode, reason: "" },
  };
  if (mode === "forked") return beginning;
  return { ...beginning, instead: async (error) => booted(error.message) };
}

/** Whether all disks of an instance still show exactly what is in a folder of frozen files. */
async function standOn(services: Services, { id, spec }: Instance, frozen: string): Promise<boolean> {
  const { folders, snapshotFolders, host } = services;
  const folder = await folders.find(id);
  if (!folder) return false;
  const disks = spec.disks.map(async ({ name }) => {
    const below = await snapshotFolders.below(diskPath(folder.vmPath, name));
    return below?.folder === frozen && isUntouched(host, folder.vmPath, diskFile(name));
  });
  return (await Promise.all(disks)).every(Boolean);
}

function booted(reason: string): Beginning {
  return { start: { mode: "cold", reason } };
}

/** Says when a pool had a machine that the instance could not take for its ports. */
async function whyNoPool(
  { driver, store }: Services,
  { location, spec, status }: Instance,
  place: TemplatePlace | undefined,
): Promise<string> {
  const couldNot = spec.ports.length > 0 && !driver(location).publish && status.restartGeneration === null;
  const pool = couldNot && place && (await findPoolWith(store.queries, place));
  return pool ? `; not from the pool ${pool}, whose machines cannot publish ports here` : "";
}

/** Whether all disks of an instance still show exactly what is in its image, or are as they were when the template's process was ready. */
async function areUntouched(
  { folders, snapshotFolders, templates, host }: Services,
  { id, spec }: Instance,
  template: Template | undefined,
): Promise<boolean> {
  const folder = await folders.find(id);
  if (!folder) return false;
  const untouched = spec.disks.map(async ({ name }) => {
    // What a template's guest was captured before it read.
    if (name === volumesDisk && !template?.app) return true;
    if (template?.app) return templates.isDisk(template.id, name, folder.vmPath, diskFile(name));
    // What stands on a snapshot's file shows what is in that.
    if (await snapshotFolders.below(diskPath(folder.vmPath, name))) return false;
    return isUntouched(host, folder.vmPath, diskFile(name));
  });
  return (await Promise.all(untouched)).every(Boolean);
}
