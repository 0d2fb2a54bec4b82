import { BerthError, type ErrorCode, errorCatalogue, type Instance } from "@berth/api";
import type { ObservedInstance } from "../core/decide-instance.ts";
import { keepsPorts } from "../core/published-ports.ts";
import { withVolumes } from "../core/volumes.ts";
import type { Driver, Handle } from "../drivers/driver.ts";
import { stateFromLog } from "../guest/facts.ts";
import { readImage } from "../store/images.ts";
import { readHandle } from "../store/instances.ts";
import { readOperation } from "../store/operations.ts";
import { diskPath } from "./instance-paths.ts";
import { observeTemplateOf } from "./observe-template.ts";
import type { Services } from "./services.ts";
import { templatePlace } from "./template-place.ts";

/** What an instance's operation decides by. */
export interface InstanceObservation {
  readonly observed: ObservedInstance;
  /** The operations that make what it waits for, while they do. */
  readonly makers: { readonly image: string | null; readonly template: string | null };
}

/** Looks at all that belongs to an instance: its image, its disks, its machine and its guest. Changes nothing. */
export async function observeInstance(services: Services, instance: Instance): Promise<InstanceObservation> {
  const handle = await findHandle(services, instance);
  const [image, template, prepared, run] = await Promise.all([
    observeImage(services, instance),
    observeTemplate(services, instance),
    observePreparation(services, instance),
    observeRun(services, instance, handle),
  ]);
  return {
    makers: { image: image.operationId, template: template.operationId },
    observed: {
      image: image.state,
      template: template.state,
      ...prepared,
      ...run,
      claimed: instance.status.start?.mode === "pool",
      portsHeld: services.standIns.holds(instance.id),
      runGeneration: instance.status.restartGeneration,
      publishes: instance.spec.ports.some((port) => port.protocol === "tcp"),
    },
  };
}

/** Looks at an instance's machine and guest alone: all that its status tells. Changes nothing. */
export async function observeRun(
  services: Services,
  { id, location }: Instance,
  handle: Handle | undefined,
): Promise<SeenMachine & SeenGuest> {
  const driver = services.driver(location);
  const machine = await observeMachine(driver, handle);
  const guest =
    handle && machine.power !== "stopped" ? observeRunning(services, driver, id) : await observeEnded(driver, handle);
  return { ...machine, ...guest, memoryBytes: await services.folders.memoryBytes(id) };
}

/** The stored handle, or what carries the instance's owner mark although its handle was never saved. */
export async function findHandle(services: Services, { id, location }: Instance): Promise<Handle | undefined> {
  const stored = await readHandle(services.store.queries, id);
  return stored ?? (await services.driver(location).find(services.ownerOf(id)));
}

async function observeImage(
  { store }: Services,
  { imageId }: Instance,
): Promise<{ state: ObservedInstance["image"]; operationId: string | null }> {
  const image = await readImage(store.queries, imageId);
  if (!image) return { state: { state: "gone" }, operationId: null };
  if (image.state !== "failed") return { state: { state: image.state }, operationId: image.operationId };
  const operation = image.operationId ? await readOperation(store.queries, image.operationId) : undefined;
  const code = operation?.error?.code ?? "";
  const error = new BerthError(code in errorCatalogue ? (code as ErrorCode) : "internal", image.reason);
  return { state: { state: "failed", error }, operationId: null };
}

/** Only an instance that must begin from a template, and never ran, has anything to wait for. */
async function observeTemplate(
  services: Services,
  instance: Instance,
): Promise<{ state: ObservedInstance["template"]; operationId: string | null }> {
  const { queries } = services.store;
  const isNeeded =
    (instance.spec.warm === "require" || instance.spec.warm === "app") && instance.status.restartGeneration === null;
  const digest = isNeeded ? (await readImage(queries, instance.imageId))?.contentDigest : undefined;
  if (!digest) return { state: { state: "unneeded" }, operationId: null };
  const place = await templatePlace(services, instance, digest);
  return observeTemplateOf(services, place);
}

async function observePreparation(
  { store, images, folders, host }: Services,
  { id, imageId, spec, status }: Instance,
): Promise<Pick<ObservedInstance, "artifact" | "disksPlanned" | "disks" | "folder" | "portsReserved">> {
  const image = await readImage(store.queries, imageId);
  const digest = image?.contentDigest;
  const folder = await folders.find(id);
  const hasDisk = async (name: string) => folder !== undefined && host.files.exists(diskPath(folder.vmPath, name));
  const disks = await Promise.all(spec.disks.map(({ name }) => hasDisk(name)));
  return {
    // The disks of an imported instance lie over nothing.
    artifact: image?.source.type === "import" || (digest ? (await images.findArtifact(digest)) !== undefined : false),
    disksPlanned: withVolumes(spec.disks, image?.startConfig ?? null).length === spec.disks.length,
    disks: disks.every(Boolean),
    folder: await host.files.exists(folders.path(id)),
    portsReserved: keepsPorts(spec.ports, status.ports),
  };
}

type SeenMachine = Pick<ObservedInstance, "made" | "power" | "powerReason" | "startedAt" | "memoryBytes">;

async function observeMachine(driver: Driver, handle: Handle | undefined): Promise<Omit<SeenMachine, "memoryBytes">> {
  if (!handle) return { made: false, power: "stopped", powerReason: "", startedAt: null };
  const { exists, power, reason, startedAt } = await driver.inspect(handle);
  return {
    made: exists,
    power,
    powerReason: reason,
    startedAt: startedAt === null ? null : new Date(startedAt).toISOString(),
  };
}

type SeenGuest = Pick<ObservedInstance, "exit" | "failure" | "ready" | "notReadyReason" | "heard" | "guestVisible">;

function observeRunning({ guests }: Services, driver: Driver, id: string): SeenGuest {
  const guest = guests.latest(id);
  return {
    guestVisible: driver.abilities.channel,
    heard: guest !== undefined && guest.bootId !== "",
    exit: guest?.exit ?? null,
    failure: guest?.failure?.reason ?? null,
    ready: guest?.ready ?? false,
    notReadyReason: guest?.reason ?? "",
  };
}

/** What the guest last said is on disk, whoever was listening. */
async function observeEnded(driver: Driver, handle: Handle | undefined): Promise<SeenGuest> {
  const lines = handle && driver.readControlLog ? await driver.readControlLog(handle) : [];
  const { exit, failure } = stateFromLog(lines);
  return {
    guestVisible: driver.abilities.channel,
    heard: true,
    exit,
    failure: failure?.reason ?? null,
    ready: false,
    notReadyReason: "",
  };
}
