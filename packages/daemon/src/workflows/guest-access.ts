import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { BerthError, type Instance } from "@berth/api";
import { runOf } from "../core/instance-run.ts";
import type { Driver, Handle } from "../drivers/driver.ts";
import { type GuestConfig, machineIdOf, processFrom } from "../guest/config.ts";
import { createKeys, formatKeys, type InstanceKeys, parseKeys } from "../guest/keys.ts";
import { guestNetwork } from "../network/netdev.ts";
import { readImage } from "../store/images.ts";
import { readInstance, readRun } from "../store/instances.ts";
import { macAddress } from "./mac-address.ts";
import type { Services } from "./services.ts";

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

/** Begins to listen to a machine's guest without telling it who it is: it waits for that, and its memory can be saved. */
export function attachUnconfigured({ guests }: Services, id: string, driver: Driver, handle: Handle): void {
  if (!driver.openPort || guests.isAttached(id)) return;
  guests.attach(id, { openPort: driver.openPort.bind(driver, handle), keys: createKeys(), config: () => undefined });
}

/** What the guest is told when it has booted; made anew for each boot. */
async function guestConfig({ store }: Services, id: string, keys: InstanceKeys): Promise<GuestConfig> {
  const instance = await readInstance(store.queries, id);
  const image = instance && (await readImage(store.queries, instance.imageId));
  if (!instance || !image?.startConfig) throw new BerthError("not_found", `Instance ${id} or its image is gone.`);
  const { spec } = instance;
  const run = (await readRun(store.queries, id)) ?? runOf(instance);
  return {
    id,
    hostname: run.name,
    machineId: machineIdOf(id),
    process: processFrom(image.startConfig, run, run.name),
    watchPorts: [...new Set(run.ports.filter(({ protocol }) => protocol === "tcp").map(({ guestPort }) => guestPort))],
    interfaces: spec.interfaces.map((_, index) => ({ mac: macAddress(id, index), ...userInterface })),
    channel: { hostKey: keys.hostKey, clientPublicKey: keys.clientPublicKey },
    nowMs: Date.now(),
    seed: randomBytes(seedBytes).toString("base64"),
  };
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
