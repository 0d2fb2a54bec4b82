import { BerthError, type Instance } from "@berth/api";
import type { Driver, Handle } from "../drivers/driver.ts";
import type { Scope, Services as ServerServices } from "../server/services.ts";
import { findInstance, readHandle } from "../store/instances.ts";
import { attachGuest } from "../workflows/guest-access.ts";
import type { Services } from "../workflows/services.ts";

type GuestServices = Pick<ServerServices["instances"], "logs" | "exec" | "console" | "readFiles" | "writeFiles">;

/** What leads into guests and out of them: logs, exec, console, files. */
export function guestServices(services: Services): GuestServices {
  const find = async (scope: Scope, ref: string): Promise<{ instance: Instance; driver: Driver; handle: Handle }> => {
    const instance = await findInstance(services.store.queries, scope.project, ref);
    if (!instance) throw new BerthError("not_found", `There is no instance ${ref}.`);
    const handle = await readHandle(services.store.queries, instance.id);
    if (!handle) throw new BerthError("instance_not_running", `${instance.name} has not been started yet.`);
    return { instance, driver: services.driver(instance.location), handle };
  };

  const channel = async (scope: Scope, ref: string, signal: AbortSignal) => {
    const { instance, driver, handle } = await find(scope, ref);
    if (!driver.abilities.channel) throw lacks(driver, "reach into guests");
    if ((await driver.inspect(handle)).power !== "running") throw notRunning(instance);
    await attachGuest(services, instance, driver, handle);
    return services.guests.channel(instance.id, signal);
  };

  return {
    async logs(scope, ref, { tail, follow, timestamps, signal }) {
      const { driver, handle } = await find(scope, ref);
      if (!driver.readLog) throw lacks(driver, "keep logs");
      return driver.readLog(handle, { follow, timestamps, signal, ...(tail === undefined ? {} : { tail }) });
    },
    async exec(scope, ref, request, signal) {
      return (await channel(scope, ref, signal)).exec(request, signal);
    },
    async console(scope, ref, signal) {
      const { instance, driver, handle } = await find(scope, ref);
      if (!driver.openPort || !driver.abilities.console) throw lacks(driver, "show consoles");
      if ((await driver.inspect(handle)).power !== "running") throw notRunning(instance);
      return driver.openPort(handle, "console", signal);
    },
    async readFiles(scope, ref, path, signal) {
      return (await channel(scope, ref, signal)).readTar(path, signal);
    },
    async writeFiles(scope, ref, path, archive, signal) {
      await (await channel(scope, ref, signal)).writeTar(path, archive, signal);
    },
  };
}

function lacks(driver: Driver, ability: string): BerthError {
  return new BerthError("unsupported_by_driver", `The driver of ${driver.location} cannot ${ability}.`);
}

function notRunning(instance: Instance): BerthError {
  return new BerthError("instance_not_running", `${instance.name} is ${instance.status.phase}.`);
}
