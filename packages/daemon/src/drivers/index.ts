import { join } from "node:path";
import type { Host } from "../host/host.ts";
import type { Driver } from "./driver.ts";
import { fakeDriver } from "./fake/driver.ts";
import type { Verdict } from "./qemu/accelerator.ts";
import { qemuDriver } from "./qemu/driver.ts";

/** What a driver is made from. */
export interface DriverSettings {
  readonly host: Host;
  readonly location: string;
  readonly installationId: string;
  readonly dataDir: string;
  readonly instancesDir: string;
  readonly isOurs: (uid: number) => boolean;
  readonly accelerator: () => Promise<Verdict>;
  /** Whether the ports of a running machine cannot be changed: an ordinary user's are published by a helper that is told them at its start. */
  readonly fixedPorts: boolean;
}

/** Every kind of driver, by the name that BERTH_DRIVER and locations call it. */
export const drivers = {
  qemu: (settings: DriverSettings): Driver => qemuDriver(settings),
  fake: ({ host, location, dataDir }: DriverSettings): Driver =>
    fakeDriver({ host, location, world: join(dataDir, "fake") }),
} as const;
