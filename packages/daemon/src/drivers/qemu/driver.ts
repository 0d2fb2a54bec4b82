import type { Duplex } from "node:stream";
import { BerthError } from "@berth/api";
import type { Host } from "../../host/host.ts";
import type { Driver, GuestPort, Handle, Observed, OwnerMark } from "../driver.ts";
import { acceleratorOf, type Verdict } from "./accelerator.ts";
import { machinePaths, makeHandle, readHandle } from "./handle.ts";
import { readLines, readLog } from "./log.ts";
import { findMarked, Machine } from "./machine.ts";

export interface QemuDriverOptions {
  readonly host: Host;
  /** `node1/qemu`. */
  readonly location: string;
  readonly installationId: string;
  /** Holds a folder per instance, see InstanceFolders; its path without links. */
  readonly instancesDir: string;
  /** Whether a process of this uid may be one of ours: the daemon's own, or as root one of those it gives to guests. */
  readonly isOurs: (uid: number) => boolean;
  /** How guests are run here; asked at each start. */
  readonly accelerator: () => Promise<Verdict>;
  /** The hypervisor; found by its name when not given. */
  readonly qemu?: string;
}

const defaultQemu = "qemu-system-x86_64";

/** Real machines by QEMU on the node itself. It keeps nothing in memory: a new object, or a new daemon, sees what the one before saw. */
export function qemuDriver(options: QemuDriverOptions): Driver {
  const { host } = options;
  const qemu = options.qemu ?? defaultQemu;
  const queue = new Queue();

  const { isOurs } = options;
  const machineOf = (owner: OwnerMark) =>
    new Machine({ host, owner, paths: machinePaths(options.instancesDir, owner.instanceId), isOurs });
  /** One thing at a time per machine: its QEMU talks to one client at a time. */
  const withMachine = <T>(handle: Handle, act: (machine: Machine) => Promise<T>): Promise<T> => {
    const owner = readHandle(handle);
    if (owner.installationId !== options.installationId) throw new Error("The handle is another installation's");
    return queue.run(owner.instanceId, () => act(machineOf(owner)));
  };

  return {
    name: "qemu",
    location: options.location,
    abilities: {
      boots: ["rootfs"],
      console: true,
      channel: true,
      snapshots: true,
      templates: false,
      hotplug: false,
      networks: ["user"],
    },

    async probe() {
      for (const program of [qemu, "s6-log", "mkfifo"]) {
        if (!(await host.find(program))) return { healthy: false, reason: `${program} is not installed` };
      }
      const verdict = await options.accelerator();
      return { healthy: verdict.kind !== "none", reason: verdict.reason };
    },

    async create(inputs) {
      const handle = makeHandle(inputs.owner);
      await withMachine(handle, async (machine) => {
        if (!(await machine.record())) await machine.create(inputs);
      });
      return handle;
    },

    start: (handle, signal) =>
      withMachine(handle, async (machine) => {
        if (await machine.hypervisor()) {
          const { power } = await machine.state();
          if (power === "paused") await machine.command("cont");
          return;
        }
        const verdict = await options.accelerator();
        if (verdict.kind === "none") throw new BerthError("host_program_failed", verdict.reason);
        await machine.powerOff(); // what an earlier run may have left
        await machine.start({ qemu, accelerator: await acceleratorOf(verdict.kind), signal });
      }),

    configure: (handle, inputs) => withMachine(handle, (machine) => machine.create(inputs)),

    powerOff: (handle) => withMachine(handle, (machine) => machine.powerOff()),

    pressPowerButton: (handle) =>
      withMachine(handle, async (machine) => {
        if (await machine.hypervisor()) await machine.command("system_powerdown");
      }),

    destroy: (handle) => withMachine(handle, (machine) => machine.destroy()),
    inspect: (handle) => withMachine(handle, (machine) => inspectMachine(host, machine)),

    async find(owner) {
      if (owner.installationId !== options.installationId) return undefined;
      const machine = machineOf(owner);
      const made = (await machine.record()) !== undefined || (await machine.marked()).length > 0;
      return made ? makeHandle(owner) : undefined;
    },

    async list(installationId) {
      const owners = new Map<string, OwnerMark>();
      if (installationId === options.installationId) {
        for (const instanceId of await host.files.list(options.instancesDir)) {
          const owner = { installationId, instanceId };
          if (await machineOf(owner).record()) owners.set(instanceId, owner);
        }
      }
      for (const { owner } of await findMarked(host, isOurs)) {
        if (owner.installationId === installationId) owners.set(owner.instanceId, owner);
      }
      return [...owners.values()].map((owner) => ({ owner, handle: makeHandle(owner) }));
    },

    pause: (handle) =>
      withMachine(handle, async (machine) => {
        if (!(await machine.hypervisor())) throw new BerthError("instance_not_running", "Its machine is off.");
        await machine.command("stop");
      }),

    async memoryUsed(handle) {
      const hypervisor = await machineOf(readHandle(handle)).hypervisor();
      return hypervisor && readProportionalMemory(host, hypervisor.pid);
    },

    openPort(handle, port, signal): Promise<Duplex> {
      const { paths } = machineOf(readHandle(handle));
      return host.connect(paths.sockets[port satisfies GuestPort], signal).catch((cause) => {
        signal.throwIfAborted();
        throw new BerthError("instance_not_running", `Its ${port} cannot be reached: it does not run.`, { cause });
      });
    },

    readLog(handle, readOptions) {
      const machine = machineOf(readHandle(handle));
      const ended = new AbortController();
      if (readOptions.follow) {
        machine.waitForEnd(readOptions.signal).then(
          () => ended.abort(),
          (error: unknown) => ended.abort(error),
        );
      }
      const signal = AbortSignal.any([readOptions.signal, ended.signal]);
      return readLog(host, machine.paths.vm, machine.paths.logs.console, { ...readOptions, signal });
    },

    async readControlLog(handle) {
      const { paths } = machineOf(readHandle(handle));
      if (!(await host.files.exists(paths.vm))) return [];
      return (await readLines(host, paths.vm, paths.logs.control))
        .map(({ text }) => text)
        .filter((text) => text !== "");
    },
  };
}

async function inspectMachine(host: Host, machine: Machine): Promise<Observed> {
  const [record, run, hypervisor] = [await machine.record(), await machine.run(), await machine.hypervisor()];
  if (hypervisor) {
    const { power, reason } = await machine.state();
    return { exists: true, power, reason, startedAt: run?.startedAt ?? null };
  }
  const exists = record !== undefined;
  if (!exists || !run) return { exists, power: "stopped", reason: "", startedAt: null };
  const { bootId } = await host.facts();
  const reason = run.bootId === bootId ? await machine.lastWords(run.startedAt) : "the node was restarted";
  return { exists, power: "stopped", reason, startedAt: null };
}

/** What a process takes of memory, shared pages in part (proc(5), smaps_rollup); undefined when it may not be read. */
async function readProportionalMemory(host: Host, pid: number): Promise<number | undefined> {
  const text = await host.files.readText(`/proc/${pid}/smaps_rollup`).catch(() => undefined);
  const [, kibibytes] = /^Pss:\s+(\d+) kB$/m.exec(text ?? "") ?? [];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}

/** Runs what concerns the same thing one after the other. */
class Queue {
  readonly #last = new Map<string, Promise<unknown>>();

  async run<T>(key: string, act: () => Promise<T>): Promise<T> {
    const turn = (this.#last.get(key) ?? Promise.resolve()).then(act);
    const settled = turn.catch(() => {});
    this.#last.set(key, settled);
    try {
      return await turn;
    } finally {
      if (this.#last.get(key) === settled) this.#last.delete(key);
    }
  }
}
