import type { Readable } from "node:stream";
import { BerthError, type Instance } from "@berth/api";
import type { Driver, Handle } from "../drivers/driver.ts";
import type { GuestChannel } from "../guest/channel.ts";
import type { Scope, Services as ServerServices } from "../server/services.ts";
import { findInstance, readHandle } from "../store/instances.ts";
import { attachGuest } from "../workflows/guest-access.ts";
import type { Services } from "../workflows/services.ts";
import { wakeAndWait, wakesByItself } from "../workflows/wake-instance.ts";

interface Found {
  readonly instance: Instance;
  readonly driver: Driver;
  readonly handle: Handle;
}

type GuestServices = Pick<ServerServices["instances"], "logs" | "exec" | "console" | "readFiles" | "writeFiles">;

/** What leads into guests and out of them: logs, exec, console, files. */
export function guestServices(services: Services): GuestServices {
  const find = async (scope: Scope, ref: string): Promise<Found> => {
    const instance = await findInstance(services.store.queries, scope.project, ref);
    if (!instance) throw new BerthError("not_found", `There is no instance ${ref}.`);
    const handle = await readHandle(services.store.queries, instance.id);
    if (!handle) throw new BerthError("instance_not_running", `${instance.name} has not been started yet.`);
    return { instance, driver: services.driver(instance.location), handle };
  };

  /** What is open in a guest, from the moment it is asked for: nobody puts that guest to sleep. One that sleeps by itself is woken. */
  const session = async <T>(
    { instance, driver, handle }: Found,
    scope: Scope,
    signal: AbortSignal,
    kind: { readonly open: () => Promise<T>; readonly over: (opened: T) => Promise<unknown> },
  ): Promise<T> => {
    const end = services.sessions.begin(instance.id);
    try {
      if (wakesByItself(instance)) await wakeAndWait(services.store, instance.id, scope.caller.id, signal);
      if ((await driver.inspect(handle)).power !== "running") throw notRunning(instance);
      const opened = await kind.open();
      void kind.over(opened).then(end, end);
      return opened;
    } catch (error) {
      end();
      throw error;
    }
  };

  const inChannel = async <T>(
    scope: Scope,
    ref: string,
    signal: AbortSignal,
    kind: { readonly open: (channel: GuestChannel) => Promise<T>; readonly over: (opened: T) => Promise<unknown> },
  ): Promise<T> => {
    const found = await find(scope, ref);
    const { instance, driver, handle } = found;
    if (!driver.abilities.channel) throw lacks(driver, "reach into guests");
    const open = async () => {
      await attachGuest(services, instance, driver, handle);
      return kind.open(await services.guests.channel(instance.id, signal));
    };
    return session(found, scope, signal, { ...kind, open });
  };

  return {
    async logs(scope, ref, { tail, follow, timestamps, signal }) {
      const { instance, driver, handle } = await find(scope, ref);
      if (!driver.readLog) throw lacks(driver, "keep logs");
      const log = driver.readLog(handle, { follow, timestamps, signal, ...(tail === undefined ? {} : { tail }) });
      if (follow) log.once("close", services.sessions.begin(instance.id));
      return log;
    },
    exec(scope, ref, request, signal) {
      return inChannel(scope, ref, signal, {
        open: (channel) => channel.exec(request, signal),
        over: ({ exit }) => exit,
      });
    },
    async console(scope, ref, signal) {
      const found = await find(scope, ref);
      const { driver, handle } = found;
      const { openPort } = driver;
      if (!openPort || !driver.abilities.console) throw lacks(driver, "show consoles");
      return session(found, scope, signal, {
        open: () => openPort.call(driver, handle, "console", signal),
        over: closed,
      });
    },
    readFiles(scope, ref, path, signal) {
      return inChannel(scope, ref, signal, { open: (channel) => channel.readTar(path, signal), over: closed });
    },
    writeFiles(scope, ref, path, archive, signal) {
      return inChannel(scope, ref, signal, {
        open: (channel) => channel.writeTar(path, archive, signal),
        over: async () => undefined,
      });
    },
  };
}

function closed(stream: Readable): Promise<unknown> {
  return new Promise((resolve) => stream.once("close", resolve));
}

function lacks(driver: Driver, ability: string): BerthError {
  return new BerthError("unsupported_by_driver", `The driver of ${driver.location} cannot ${ability}.`);
}

function notRunning(instance: Instance): BerthError {
  if (instance.status.phase === "suspended")
    return new BerthError("instance_suspended", `${instance.name} is suspended.`);
  return new BerthError("instance_not_running", `${instance.name} is ${instance.status.phase}.`);
}
