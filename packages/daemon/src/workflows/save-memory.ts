import { BerthError, type Instance } from "@berth/api";
import type { Paused, SaveMemoryRequest } from "../drivers/driver.ts";
import { attachGuest } from "./guest-access.ts";
import { findHandle } from "./observe-instance.ts";
import { answered } from "./reach-guest.ts";
import type { Services } from "./services.ts";

/** How long a guest may take to be reached, and to let its programs stand still, in milliseconds. */
const answerMs = 5_000;

/**
 * Saves the memory of a running instance for others to go on from, and switches its disks in the same pause. Its programs stand still round that moment, so that none runs in a copy
 * before it knows who it is; they go on here at once. Whatever fails, the instance runs on.
 */
export async function saveSharedMemory(
  services: Services,
  instance: Instance,
  request: Pick<SaveMemoryRequest, "folder" | "passing" | "switches">,
  signal: AbortSignal,
): Promise<Paused> {
  const { guests } = services;
  const driver = services.driver(instance.location);
  const handle = await findHandle(services, instance);
  if (!driver.saveMemory || !driver.abilities.channel)
    throw new BerthError("unsupported_by_driver", `${driver.location} saves no memory.`);
  if (!handle || (await driver.inspect(handle)).power !== "running")
    throw new BerthError("instance_not_running", `${instance.name} is off: it has no memory to save.`);
  await attachGuest(services, instance, driver, handle);
  const isConnected = ({ connected }: { readonly connected: boolean }) => connected;
  // What the guest does not hear it does by itself after two seconds.
  const release = () => void guests.release(instance.id, AbortSignal.timeout(answerMs)).catch(() => undefined);
  try {
    return await driver.saveMemory(
      handle,
      {
        ...request,
        use: "shared",
        afterwards: "resume",
        beforePause: async () => {
          await answered(answerMs, signal, (limit) => guests.waitFor(instance.id, isConnected, limit));
          await answered(answerMs, signal, (limit) => guests.hold(instance.id, limit));
        },
        afterPause: release,
      },
      signal,
    );
  } catch (error) {
    release();
    throw error;
  }
}
