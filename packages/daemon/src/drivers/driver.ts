import type { Duplex, Readable } from "node:stream";
import type { DriverAbilities } from "@berth/api";
import type { DiskDescription, HostUser, KitDescription, NicDescription } from "../core/descriptions.ts";

/** Who made an object in a hypervisor or cloud: enough to find it again when its handle was never saved, and to leave everyone else's alone. */
export interface OwnerMark {
  readonly installationId: string;
  readonly instanceId: string;
}

/** A driver's private memory of one instance: versioned, stored with the instance, opaque to others. */
export interface Handle {
  readonly version: number;
  readonly [key: string]: unknown;
}

/** What `create` is given: sizes and plain descriptions, ready to use. */
export interface CreateInputs {
  readonly owner: OwnerMark;
  readonly name: string;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly disks: readonly DiskDescription[];
  readonly nics: readonly NicDescription[];
  /** How a `rootfs` image boots; null for images that bring their own boot loader. */
  readonly kit: KitDescription | null;
  /** The instance's labels, for locations that show tags. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Who the hypervisor runs as; null when the daemon is not root. The instance's folder belongs to it. */
  readonly user: HostUser | null;
  /** A program and arguments put before the hypervisor's own: the namespace and rules it lives in. Empty for none. */
  readonly launcher: readonly string[];
}

/** What the driver sees of one instance now. `handle` is null for one it does not have. */
export interface Observed {
  readonly exists: boolean;
  readonly power: "running" | "paused" | "stopped";
  /** In words, when something is off: `qemu ended with exit code 1: …`. */
  readonly reason: string;
  /** When the present run began; null when it does not run. */
  readonly startedAt: number | null;
}

export interface DriverHealth {
  readonly healthy: boolean;
  readonly reason: string;
}

/** The streams that lead into a running guest. */
export type GuestPort = "console" | "control" | "channel";

/**
 * The contract every driver keeps; `contract.ts` proves it. All methods may be called again after a crash and then finish what was begun.
 * Required abilities are methods, optional ones optional properties: what is missing shows in the type.
 */
export interface Driver {
  /** The kind: `qemu`, `fake`. */
  readonly name: string;
  /** The configured location: `node1/qemu`. */
  readonly location: string;
  readonly abilities: DriverAbilities;
  /** Whether the driver can work now, and why not. */
  probe(signal: AbortSignal): Promise<DriverHealth>;
  /** Makes the instance, stopped. The same call for the same owner returns the existing one's handle and changes nothing. */
  create(inputs: CreateInputs): Promise<Handle>;
  /** Powers it on. Resolves when it already runs. Rejects with BerthError `port_taken`, `not_enough_resources` or `host_program_failed`. */
  start(handle: Handle, signal: AbortSignal): Promise<void>;
  /** Cuts the power. Resolves when it is already off, and only when it is really gone. */
  powerOff(handle: Handle): Promise<void>;
  /** Asks the guest's firmware to shut down (ACPI); resolves once asked. The channel's own stop is nicer where there is one. */
  pressPowerButton(handle: Handle): Promise<void>;
  /** Removes every trace but the disks it was given. Resolves when already gone; a running one is powered off first. */
  destroy(handle: Handle): Promise<void>;
  /** The only source of truth. Never rejects for an instance that is gone: then `exists` is false. */
  inspect(handle: Handle): Promise<Observed>;
  /** Finds what carries this owner's mark, even when its handle was never saved; undefined when nothing does. */
  find(owner: OwnerMark): Promise<Handle | undefined>;
  /** All instances of this installation that the location has: for finding orphans. */
  list(installationId: string): Promise<readonly { readonly owner: OwnerMark; readonly handle: Handle }[]>;
  /** Opens a stream into the running guest. Each port takes one client at a time. */
  openPort?(handle: Handle, port: GuestPort, signal: AbortSignal): Promise<Duplex>;
  /** What was written to the console, kept on disk within bounds without the daemon's help. */
  readLog?(handle: Handle, options: ReadLogOptions): Readable;
  /** The last lines the guest wrote to its control port, kept on disk without the daemon's help: the exit code outlives a dead daemon by them. */
  readControlLog?(handle: Handle): Promise<readonly string[]>;
}

export interface ReadLogOptions {
  /** The last so many lines; all that is kept when absent. */
  readonly tail?: number;
  /** Go on with new lines until the machine is off, or aborted. */
  readonly follow: boolean;
  /** Begin each line with the time it was written. */
  readonly timestamps: boolean;
  readonly signal: AbortSignal;
}
