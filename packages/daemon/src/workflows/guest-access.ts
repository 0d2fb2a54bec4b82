import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { BerthError, type Instance } from "@berth/api";
import type { PortForward } from "../core/descriptions.ts";
import { runOf } from "../core/instance-run.ts";
import { hasVolumes } from "../core/volumes.ts";
import type { Driver, Handle } from "../drivers/driver.ts";
import { type GuestConfig, type GuestOrigin, guestVolumes, machineIdOf, processFrom } from "../guest/config.ts";
import { createKeys, formatKeys, type InstanceKeys, parseKeys } from "../guest/keys.ts";
import { guestNetwork } from "../network/netdev.ts";
import { findImageByDigest, readImage } from "../store/images.ts";
import { readInstance, readRun, readSavedMemory } from "../store/instances.ts";
import type { Queries } from "../store/store.ts";
import type { BlankMachine } from "./blank-machine.ts";
import { macAddress } from "./mac-address.ts";
import type { Services } from "./services.ts";

const mebibyte = 1024 * 1024;
const seedBytes = 64;
const userInterface = {
  address: `${guestNetwork.guest}/24`,
  gateway: guestNetwork.gateway,
  dns: [guestNetwork.dns],
} as const;

/** Begins to listen to a running instance's guest; nothing happens when that is so already, or its location shows no guests. */
export async function attachGuest(
  services: Services,
  instance: Instance,
  driver: Driver,
  handle: Handle,
): Promise<void> {
  if (!driver.abilities.channel || !driver.openPort || services.guests.isAttached(instance.id)) return;
  const openPort = driver.openPort.bind(driver, handle);
  const keys = await keepKeys(services, instance.id);
  services.guests.attach(instance.id, { openPort, keys, config: () => guestConfig(services, instance.id, keys) });
}

/**
 * Begins to listen to the guest of a machine that is nobody's. It is not told who it is and waits for that, unless the image's process is to be started in it: then it
 * goes by its own id.
 */
export function attachBlank(services: Services, machine: BlankMachine, driver: Driver, handle: Handle): void {
  const { guests } = services;
  if (!driver.openPort || guests.isAttached(machine.id)) return;
  const keys = createKeys();
  const config = () => blankConfig(services, machine, keys);
  guests.attach(machine.id, { openPort: driver.openPort.bind(driver, handle), keys, config });
}

async function blankConfig(
  { store }: Services,
  { id, project, contentDigest, disks, interfaces, app }: BlankMachine,
  keys: InstanceKeys,
): Promise<GuestConfig | undefined> {
  if (!app) return undefined;
  const image = await findImageByDigest(store.queries, project, contentDigest);
  if (!image?.startConfig) throw new BerthError("not_found", "The image was deleted meanwhile.");
  return {
    ...identityOf(id, id, interfaces, keys),
    process: processFrom(image.startConfig, app, id),
    watchPorts: app.ports,
    volumes: disks > 1 ? guestVolumes(image.startConfig) : [],
  };
}

/** What the guest is told when it has booted; made anew for each boot. */
async function guestConfig({ store }: Services, id: string, keys: InstanceKeys): Promise<GuestConfig> {
  const instance = await readInstance(store.queries, id);
  const image = instance && (await readImage(store.queries, instance.imageId));
  if (!instance || !image?.startConfig) throw new BerthError("not_found", `Instance ${id} or its image is gone.`);
  const { spec } = instance;
  const run = (await readRun(store.queries, id)) ?? runOf(instance);
  return {
    ...identityOf(id, run.name, spec.interfaces.length, keys, await originOf(store.queries, instance)),
    process: processFrom(image.startConfig, run, run.name),
    watchPorts: watchedPorts(run.ports),
    diskBytes: spec.disks.map(() => (run.diskMib ?? 0) * mebibyte),
    volumes: hasVolumes(spec.disks) ? guestVolumes(image.startConfig) : [],
  };
}

/** The guest's ports that must be listened on before it is ready. */
export function watchedPorts(ports: readonly PortForward[]): number[] {
  return [...new Set(ports.filter(({ protocol }) => protocol === "tcp").map(({ guestPort }) => guestPort))];
}

/** Who a guest is: made anew each time it is told, since the clock and the seed must be of that moment. */
function identityOf(
  id: string,
  hostname: string,
  interfaces: number,
  keys: InstanceKeys,
  origin: GuestOrigin | null = null,
): Omit<GuestConfig, "process" | "watchPorts"> {
  return {
    id,
    hostname,
    machineId: machineIdOf(id),
    interfaces: Array.from({ length: interfaces }, (_, index) => ({ mac: macAddress(id, index), ...userInterface })),
    channel: { hostKey: keys.hostKey, clientPublicKey: keys.clientPublicKey },
    nowMs: Date.now(),
    seed: randomBytes(seedBytes).toString("base64"),
    origin,
  };
}

/** Whose memory the present run goes on from; null for none, and a template's is nobody's. */
async function originOf(queries: Queries, { id, status }: Instance): Promise<GuestOrigin | null> {
  const mode = status.start?.mode;
  if (mode === "resumed") return { kind: "resume", parent: null, index: 0 };
  if (mode !== "restored" && mode !== "forked") return null;
  return (await readSavedMemory(queries, id))?.origin ?? null;
}

/** The keys of the instance's channel, made when it is first listened to and kept in its folder. */
async function keepKeys({ host, folders }: Services, id: string): Promise<InstanceKeys> {
  const path = join(folders.path(id), "channel-keys.json");
  const kept = await host.files.readText(path);
  if (kept !== undefined) return parseKeys(kept);
  const keys = createKeys();
  await host.files.writeAtomic(path, formatKeys(keys), { mode: 0o600 });
  return keys;
}
