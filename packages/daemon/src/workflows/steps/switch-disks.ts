import { BerthError, type Instance } from "@berth/api";
import type { Driver, Handle } from "../../drivers/driver.ts";
import type { Step } from "../../operations/workflow.ts";
import { updateSnapshot } from "../../store/snapshots.ts";
import { describeSwitch, isSwitched, switchesOf } from "../disk-switch.ts";
import { attachGuest } from "../guest-access.ts";
import { findHandle } from "../observe-instance.ts";
import { answered } from "../reach-guest.ts";
import type { Services } from "../services.ts";
import { SnapshotInput, snapshotInstance, targetSnapshot } from "../snapshot-record.ts";

/** How long a guest may take to be reached, and then to write everything to its disks, in milliseconds. It freezes for two seconds at most. */
const reachMs = 2_000;
const freezeMs = 20_000;
/** Thawing is tried whatever happens. */
const never = new AbortController().signal;

/**
 * Lets a running machine write to the overlays from one moment on, its guest's file systems frozen round it; nothing to do for one that is off. A guest that cannot freeze them
 * fails the snapshot, unless it may be as after a power cut.
 */
export function switchDisks(services: Services): Step {
  const { store } = services;
  return {
    name: "switch-disks",
    async run(context) {
      const { snapshot, folder } = await targetSnapshot(services, context);
      const { crashConsistent } = SnapshotInput.parse(context.operation.input);
      if (snapshot.consistency === "stopped") return undefined;
      const instance = await snapshotInstance(services, snapshot);
      const driver = services.driver(instance.location);
      const handle = await findHandle(services, instance);
      const power = handle ? (await driver.inspect(handle)).power : "stopped";
      if (!handle || power === "stopped") return unlessAllowed(crashConsistent, `${instance.name} has gone off.`);
      const { disks } = await describeSwitch(services, instance, { keepIn: folder, standOn: null, tag: snapshot.id });
      if (await isSwitched(services, driver, handle, disks)) {
        if (snapshot.consistency === "frozen") return undefined;
        return unlessAllowed(
          crashConsistent,
          "Nobody knows whether its file systems were frozen: berthd was restarted.",
        );
      }
      if (!driver.switchDisks)
        throw new BerthError("unsupported_by_driver", `${driver.location} takes no snapshots of what runs.`);
      const { signal } = context;
      const change = driver.switchDisks.bind(driver, handle, switchesOf(disks), signal);
      try {
        await whileFrozen(services, { instance, driver, handle, signal }, change);
        // At once: after a crash nobody could tell.
        await store.transaction(async (tx) => {
          await updateSnapshot(tx, snapshot.id, { consistency: "frozen" });
        });
      } catch (error) {
        if (!crashConsistent || signal.aborted) throw error;
        context.log(`its file systems were not frozen: ${(error as Error).message}`);
        if (!(await isSwitched(services, driver, handle, disks))) await change();
      }
      return undefined;
    },
  };
}

function unlessAllowed(crashConsistent: boolean, why: string): undefined {
  if (!crashConsistent) throw new BerthError("guest_unreachable", why);
  return undefined;
}

/** Does something while the guest's file systems are frozen. Rejects when they were not, all the time; the guest writes again in any case. */
async function whileFrozen(
  services: Services,
  machine: {
    readonly instance: Instance;
    readonly driver: Driver;
    readonly handle: Handle;
    readonly signal: AbortSignal;
  },
  act: () => Promise<void>,
): Promise<void> {
  const { guests } = services;
  const { instance, driver, handle, signal } = machine;
  if (!driver.abilities.channel) throw new BerthError("unsupported_by_driver", `${driver.location} reaches no guests.`);
  await attachGuest(services, instance, driver, handle);
  const isConnected = ({ connected }: { readonly connected: boolean }) => connected;
  await answered(reachMs, signal, (limit) => guests.waitFor(instance.id, isConnected, limit));
  await answered(freezeMs, signal, (limit) => guests.freeze(instance.id, limit));
  let thawed: Promise<void> | undefined;
  const thaw = () => {
    thawed ??= answered(reachMs, never, (limit) => guests.thaw(instance.id, limit));
    return thawed;
  };
  try {
    await act();
    await thaw();
  } finally {
    // A guest that cannot be told goes on by itself.
    await thaw().catch(() => undefined);
  }
}
