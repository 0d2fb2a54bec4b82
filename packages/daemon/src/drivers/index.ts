import { join } from "node:path";
import type { HostUser, KitDescription } from "../core/descriptions.ts";
import type { Host, HostFacts } from "../host/host.ts";
import type { Driver, Verdict } from "./driver.ts";
import { fakeDriver } from "./fake/driver.ts";
import { probeAccelerator } from "./qemu/accelerator.ts";
import { qemuDriver } from "./qemu/driver.ts";

/** What a driver is made from. */
export interface DriverSettings {
  readonly host: Host;
  readonly architecture: HostFacts["architecture"];
  readonly location: string;
  readonly installationId: string;
  readonly dataDir: string;
  readonly instancesDir: string;
  readonly isOurs: (uid: number) => boolean;
  readonly accelerator: () => Promise<Verdict>;
  /** Whether the ports of a running machine cannot be changed: an ordinary user's are published by a helper that is told them at its start. */
  readonly fixedPorts: boolean;
}

/** What a trial of how guests run on this node is made from. */
export interface TrialSettings extends Pick<DriverSettings, "host" | "architecture" | "installationId" | "isOurs"> {
  readonly dataDir: string;
  readonly kit: KitDescription;
  /** Who the trial's hypervisor runs as; null when berthd is not root. */
  readonly user: HostUser | null;
  readonly signal: AbortSignal;
}

/** A kind of driver, and what it has the node do for its machines. */
export interface DriverKind {
  make(settings: DriverSettings): Driver;
  /**
   * Finds out how guests run on this node; nothing of what was tried is left. Only where the machines are this node's own: it then keeps a copy of the kit for them
   * in its data folder. Without it the location is one where berthd runs no guest itself.
   */
  readonly findAccelerator?: (settings: TrialSettings) => Promise<Verdict>;
  /** Whether machines are joined to this node's user-mode network and publish their ports on it, or have none that berthd knows of. */
  readonly network: "user" | "none";
}

const qemuPrograms = { amd64: "qemu-system-x86_64", arm64: "qemu-system-aarch64" } as const;

const qemu: DriverKind = {
  make: (settings) => qemuDriver({ ...settings, qemu: qemuPrograms[settings.architecture] }),
  findAccelerator: ({ dataDir, architecture, ...settings }) =>
    probeAccelerator({
      ...settings,
      qemu: qemuPrograms[architecture],
      scratchDir: join(dataDir, "probe"),
      cachePath: join(dataDir, "accelerator.json"),
    }),
  network: "user",
};

const fake: DriverKind = {
  make: ({ host, location, dataDir }) => fakeDriver({ host, location, world: join(dataDir, "fake") }),
  network: "none",
};

/** Every kind of driver, by the name that BERTH_DRIVER and locations call it. */
export const drivers = { qemu, fake } as const;
