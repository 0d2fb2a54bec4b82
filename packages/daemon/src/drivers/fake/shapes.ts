import type { DriverAbilities } from "@berth/api";

/** What kind of place the fake pretends to be. */
export type Shape = "full" | "cloud" | "remote";

interface ShapeFacts {
  readonly abilities: DriverAbilities;
  /** Whether the disks are files that must be there. */
  readonly localDisks: boolean;
  /** Whether the guest can be reached: console, control, channel and log. */
  readonly guestPorts: boolean;
  /** Whether memory can be saved and gone on from, and what a running machine is made of be changed. */
  readonly memory: boolean;
  /** Whether the place gives ids of its own choosing, instead of ones that follow from the owner. */
  readonly ownIds: boolean;
  /** How long readers go on seeing the state before a change, in milliseconds. */
  readonly lagMs: number;
}

const abilities: DriverAbilities = {
  boots: ["rootfs", "disk", "iso"],
  console: true,
  channel: true,
  snapshots: false,
  templates: false,
  hotplug: false,
  networks: ["user"],
};

/**
 * `full` is a hypervisor on this machine; `cloud` chooses its own ids, shows changes late and has no way into the guest; `remote` is a hypervisor elsewhere
 * that makes its disks itself.
 */
export const shapes: Readonly<Record<Shape, ShapeFacts>> = {
  full: {
    abilities: { ...abilities, snapshots: true, templates: true },
    localDisks: true,
    guestPorts: true,
    memory: true,
    ownIds: false,
    lagMs: 0,
  },
  cloud: {
    abilities: { ...abilities, boots: ["reference"], console: false, channel: false },
    localDisks: false,
    guestPorts: false,
    memory: false,
    ownIds: true,
    lagMs: 60,
  },
  remote: {
    abilities: { ...abilities, boots: ["rootfs", "reference"] },
    localDisks: false,
    guestPorts: true,
    memory: false,
    ownIds: false,
    lagMs: 0,
  },
};
