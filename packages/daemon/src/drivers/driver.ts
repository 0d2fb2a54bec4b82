import type { Duplex, Readable } from "node:stream";
import type { DriverAbilities } from "@berth/api";
import type { DiskDescription, HostUser, KitDescription, NicDescription, PortForward } from "../core/descriptions.ts";

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

/** How guests run on a node, and how that was found out. */
export interface Verdict {
  /** `none`: they do not. */
  readonly kind: "kvm" | "tcg" | "none";
  /** For people: why it is this one. */
  readonly reason: string;
  /** Milliseconds since the epoch. */
  readonly probedAt: number;
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

/**
 * The memory of one machine at one moment, in a folder of its own (docs/adr/memory-images.md). It fits any machine with the same CPUs, memory, number of disks and
 * interfaces, hypervisor and kit.
 */
export interface MemorySource {
  /** The folder that `saveMemory` filled. */
  readonly folder: string;
  /**
   * `shared`: many machines begin from it, now and later, and none may change it (templates, snapshots, forks). `own`: this one machine goes on from it and nobody
   * else ever does; the caller removes the folder once the machine has gone on.
   */
  readonly use: "shared" | "own";
}

/** How a machine is powered on. */
export interface StartRequest {
  /**
   * The memory it goes on from; it boots when not given. Rejects with BerthError `memory_unusable`, and leaves nothing running, when that is damaged, cut short or of
   * another machine. Its guest holds its programs until it is told who it is, and sees its disks as large as they are now.
   */
  readonly memory?: MemorySource;
  /** Stay paused until `start` is called again without it; one that runs already runs on. */
  readonly paused?: boolean;
}

/** A disk whose present file is to become the backing of a newer one, from this moment on. */
export interface DiskSwitch {
  /** The name among `CreateInputs.disks`. */
  readonly disk: string;
  /** An empty overlay over the disk's present file, which the hypervisor's user may write to. */
  readonly overlayPath: string;
}

/** What `saveMemory` is asked. */
export interface SaveMemoryRequest {
  /** Where the memory image is put. It appears there whole or not at all; one that is there already is replaced. */
  readonly folder: string;
  /** Who may read it beside the daemon: `own`, the hypervisor's user, so that the machine can go on from it; `shared`, nobody. */
  readonly use: MemorySource["use"];
  /** For memory that is gone on from at once: nothing is synced nor made small, so after a crash of the whole node it may be damaged, which is noticed. */
  readonly passing?: boolean;
  /** Disks that are switched in the same pause. */
  readonly switches: readonly DiskSwitch[];
  /** What the machine does afterwards. `off` powers it off once all is on disk. */
  readonly afterwards: "resume" | "off";
  /**
   * Called once, when most is copied and shortly before the vCPUs are stopped: the guest holds its programs meanwhile. They are stopped within 1.5 s of its
   * resolving, before the guest lets go of them by itself, or the call rejects. When it rejects, the machine goes on as if nothing had been asked.
   */
  readonly beforePause: () => Promise<void>;
  /** Called as soon as the vCPUs run again, well before all is on disk: the guest may be released. Not called when it is powered off. */
  readonly afterPause?: () => void;
}

/** How long vCPUs stood still, by the hypervisor's own events, in milliseconds. */
export interface Paused {
  readonly pausedMs: number;
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
  /**
   * Powers it on, or lets a paused one go on. Resolves when it already runs. Rejects with BerthError `port_taken`, `not_enough_resources`, `host_program_failed` or
   * `memory_unusable`.
   */
  start(handle: Handle, signal: AbortSignal, request?: StartRequest): Promise<void>;
  /**
   * Writes down anew what it is made of; the owner stays the same. It holds from the next start on. Resolves when it is so already.
   */
  configure(handle: Handle, inputs: CreateInputs): Promise<void>;
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
  /**
   * Names all that a memory image depends on at this location beside sizes and counts: hypervisor, machine type, kit. Another answer: older images no longer fit.
   */
  memoryBuild?(inputs: Pick<CreateInputs, "kit">): Promise<string>;
  /**
   * Saves the memory of a running machine, held or not. It keeps running while most of it is copied. Whatever fails, the machine runs on as before, but for disks that were
   * switched: they stay so. Called again with the same request after a crash it finds what is done: a whole image, and a machine that is off. An image whose moment has
   * passed, since the disks were switched and it was never whole, is not made up: that rejects with `host_program_failed`. Rejects with `instance_not_running`, `disk_full`.
   */
  saveMemory?(handle: Handle, request: SaveMemoryRequest, signal: AbortSignal): Promise<Paused>;
  /** Switches the disks of a running machine, all at one moment or none. Those that are switched already stay so. Rejects with `instance_not_running`. */
  switchDisks?(handle: Handle, switches: readonly DiskSwitch[], signal: AbortSignal): Promise<void>;
  /**
   * The file that each of a running machine's disks is written to now, by the disk's name and as it is called now: `CreateInputs` has the disk's own path, and an overlay that
   * was renamed to it is that. Rejects with `instance_not_running`.
   */
  activeDisks?(handle: Handle): Promise<Readonly<Record<string, string>>>;
  /**
   * Has a running machine open anew what its disks stand on, down to the lowest, and let go of the files it had: others that show the same have taken their places. Its guest
   * notices nothing. `backingOf` is asked, by a file that a disk is written to (`activeDisks`), for the qcow2 file that it stands on, or undefined when that disk is to be left alone;
   * no disk is switched before that is done. Waits for a save of its memory. Rejects with `instance_not_running`.
   */
  reopenBacking?(
    handle: Handle,
    backingOf: (activePath: string) => Promise<string | undefined>,
    signal: AbortSignal,
  ): Promise<void>;
  /** Grows a disk of a running machine; its guest sees that at once. One as large already stays as it is, so it never loses anything. Rejects with `instance_not_running`. */
  growDisk?(handle: Handle, disk: string, sizeMib: number): Promise<void>;
  /**
   * Makes the only interface of a running machine publish exactly these ports, until its next start. Rejects with `port_taken`, and then publishes what it did before; with
   * `unsupported_by_driver` where ports are fixed while it runs; with `instance_not_running`.
   */
  publish?(handle: Handle, forwards: readonly PortForward[]): Promise<void>;
  /** How many connections to published ports are open in a running machine; of one that does not run, none. */
  openConnections?(handle: Handle): Promise<number>;
  /** Lets a running machine stand still until `start` is called; one that does already stays so. Rejects with `instance_not_running`. */
  pause?(handle: Handle): Promise<void>;
  /** What a machine takes of the host's memory, in bytes: of what several machines share, its part. Undefined when it does not run, or that cannot be told. */
  memoryUsed?(handle: Handle): Promise<number | undefined>;
  /** Opens a stream into the running guest. Each port takes one client at a time. */
  openPort?(handle: Handle, port: GuestPort, signal: AbortSignal): Promise<Duplex>;
  /** What was written to the console, kept on disk within bounds without the daemon's help. */
  readLog?(handle: Handle, options: ReadLogOptions): Readable;
  /** The last lines the guest of the present or last run wrote to its control port, kept on disk without the daemon's help: the exit code outlives a dead daemon by them. */
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
