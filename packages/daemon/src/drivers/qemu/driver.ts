import type { Duplex } from "node:stream";
import { BerthError } from "@berth/api";
import type { KitDescription, PortForward } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import type { CreateInputs, Driver, GuestPort, Handle, Observed, OwnerMark, Verdict } from "../driver.ts";
import { acceleratorOf } from "./accelerator.ts";
import { activeFiles, commitSwitches, dropOverlays, growDisk, prepareSwitches, reopenBacking } from "./disks.ts";
import { machinePaths, makeHandle, readHandle } from "./handle.ts";
import { readLines, readLog } from "./log.ts";
import { findMarked, Machine } from "./machine.ts";
import { buildNames, openMemory } from "./open-memory.ts";
import { countConnections, publish } from "./publish.ts";
import type { Qmp } from "./qmp.ts";
import { saveMemory } from "./save-memory.ts";
import { SealedCache } from "./sealed-cache.ts";

export interface QemuDriverOptions {
  readonly host: Host;
  /** `node1/qemu`. */
  readonly location: string;
  readonly installationId: string;
  /** Holds a folder per instance, see InstanceFolders; its path without links. */
  readonly instancesDir: string;
  /** Whether a process of this uid may be one of ours: the daemon's own, or as root one of those it gives to guests. */
  readonly isOurs: (uid: number) => boolean;
  /** Whether the ports of a running machine cannot be changed: an ordinary user's are published by a helper that is told them at its start. */
  readonly fixedPorts?: boolean;
  /** How guests are run here; asked at each start. */
  readonly accelerator: () => Promise<Verdict>;
  /** The hypervisor; found by its name when not given. */
  readonly qemu?: string;
  /** How many bytes of guests' memory are kept sealed for the next who begin from it. */
  readonly sealedBytes?: number;
}

const defaultQemu = "qemu-system-x86_64";
/** A few templates' worth; sparse memory takes far less. */
const defaultSealedBytes = 4 * 1024 ** 3;

/** Real machines by QEMU on the node itself. It remembers nothing that it could not find again: a new object, or a new daemon, sees what the one before saw. */
export function qemuDriver(options: QemuDriverOptions): Driver {
  const { host } = options;
  const qemu = options.qemu ?? defaultQemu;
  const queue = new Queue();
  /** Saves take long and have a monitor of their own: nobody else waits for them, but the next save. */
  const saves = new Queue();
  const saving = new Set<string>();
  const sealed = new SealedCache(host, options.sealedBytes ?? defaultSealedBytes);
  const buildName = buildNames(host, qemu);

  const { isOurs } = options;
  const machineOf = (owner: OwnerMark) =>
    new Machine({ host, owner, paths: machinePaths(options.instancesDir, owner.instanceId), isOurs });
  /** One thing at a time per machine: its QEMU talks to one client at a time. */
  const withMachine = <T>(handle: Handle, act: (machine: Machine) => Promise<T>): Promise<T> => {
    const owner = readHandle(handle);
    if (owner.installationId !== options.installationId) throw new Error("The handle is another installation's");
    return queue.run(owner.instanceId, () => act(machineOf(owner)));
  };
  const withRunning = <T>(handle: Handle, act: (qmp: Qmp, inputs: CreateInputs) => Promise<T>): Promise<T> =>
    withMachine(handle, async (machine) => {
      const record = await machine.record();
      if (!record || !(await machine.hypervisor())) throw notRunning();
      return machine.converse((qmp) => act(qmp, record.inputs), changeTimeoutMs);
    });
  const usableAccelerator = async () => {
    const verdict = await options.accelerator();
    if (verdict.kind === "none") throw new BerthError("host_program_failed", verdict.reason);
    return acceleratorOf(verdict.kind);
  };
  const changePorts = (handle: Handle, forwards: readonly PortForward[]) =>
    withRunning(handle, (qmp, inputs) => publish(qmp, inputs, forwards));
  const build = async (kit: KitDescription | null) => buildName((await usableAccelerator()).kind, kit);

  return {
    name: "qemu",
    location: options.location,
    abilities: {
      boots: ["rootfs"],
      console: true,
      channel: true,
      snapshots: true,
      templates: true,
      hotplug: false,
      networks: ["user"],
    },

    async probe() {
      await sealed.sweep();
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

    start: (handle, signal, request = {}) =>
      withMachine(handle, async (machine) => {
        const { memory: source, paused = false } = request;
        // One whose daemon was killed while it read its memory still waits for that: it begins anew.
        if ((await machine.hypervisor()) && (await machine.status()) !== "inmigrate") {
          if (!paused && !saving.has(machine.owner.instanceId)) await machine.goOn();
          return;
        }
        const accelerator = await usableAccelerator();
        // What an earlier run may have left; without a record of one there was none.
        if (await machine.run()) await machine.powerOff();
        const memory =
          source &&
          (async (inputs: CreateInputs) =>
            openMemory({ host, sealed, signal, build: await build(inputs.kit) }, inputs, source));
        await machine.start({ qemu, accelerator, signal, paused, ...(memory ? { memory } : {}) });
      }),

    configure: (handle, inputs) => withMachine(handle, (machine) => machine.create(inputs)),

    powerOff: (handle) => withMachine(handle, (machine) => machine.powerOff()),

    pressPowerButton: (handle) =>
      withMachine(handle, async (machine) => {
        if (await machine.hypervisor()) await machine.command("system_powerdown");
      }),

    destroy: (handle) => withMachine(handle, (machine) => machine.destroy()),
    inspect: (handle) =>
      withMachine(handle, (machine) => inspectMachine(host, machine, saving.has(machine.owner.instanceId))),

    memoryBuild: ({ kit }) => build(kit),

    saveMemory(handle, request, signal) {
      const owner = readHandle(handle);
      return saves.run(owner.instanceId, async () => {
        const machine = await withMachine(handle, async (found) => found);
        saving.add(owner.instanceId);
        try {
          const accelerator = await usableAccelerator();
          return await saveMemory({ host, machine, qemu, accelerator, build }, request, signal);
        } finally {
          saving.delete(owner.instanceId);
        }
      });
    },

    switchDisks: (handle, switches) =>
      withRunning(handle, async (qmp, { disks }) => {
        const { todo } = await prepareSwitches(host, qmp, disks, switches);
        try {
          await commitSwitches(host, qmp, todo);
        } catch (error) {
          await dropOverlays(
            qmp,
            todo.map(({ to }) => to),
          );
          throw error;
        }
      }),

    activeDisks: (handle) => withRunning(handle, (qmp, { disks }) => activeFiles(host, qmp, disks)),
    reopenBacking(handle, backingOf, signal) {
      // A save switches disks, and has overlays open before that: they would be taken for nodes that are not in use.
      return saves.run(readHandle(handle).instanceId, () =>
        withRunning(handle, async (qmp, { disks }) => {
          signal.throwIfAborted();
          for (const [disk, path] of Object.entries(await activeFiles(host, qmp, disks))) {
            const backingPath = await backingOf(path);
            if (backingPath) await reopenBacking(host, qmp, disks, { disk, backingPath });
          }
        }),
      );
    },
    growDisk: (handle, disk, sizeMib) =>
      withRunning(handle, (qmp, { disks }) => growDisk(qmp, disks, { disk, sizeMib })),
    ...(options.fixedPorts ? {} : { publish: changePorts }),

    openConnections: (handle) =>
      withMachine(handle, async (machine) =>
        (await machine.hypervisor()) ? machine.converse((qmp) => countConnections(qmp)) : 0,
      ),

    async find(owner) {
      if (owner.installationId !== options.installationId) return undefined;
      // Nothing is started before its record is written, which is removed last: no need to look through all processes.
      return (await machineOf(owner).record()) ? makeHandle(owner) : undefined;
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
      const machine = machineOf(readHandle(handle));
      const { paths } = machine;
      if (!(await host.files.exists(paths.vm))) return [];
      await machine.untilWrittenDown();
      return (await readLines(host, paths.vm, paths.logs.control))
        .map(({ text }) => text)
        .filter((text) => text !== "");
    },
  };
}

/** Opening and switching disks waits for what is being written. */
const changeTimeoutMs = 60_000;

function notRunning(): BerthError {
  return new BerthError("instance_not_running", "The machine is off.");
}

async function inspectMachine(host: Host, machine: Machine, isSaving: boolean): Promise<Observed> {
  const [record, run, hypervisor] = [await machine.record(), await machine.run(), await machine.hypervisor()];
  if (hypervisor) {
    const { power, reason } = await machine.state(isSaving);
    return { exists: true, power, reason, startedAt: run?.startedAt ?? null };
  }
  const exists = record !== undefined;
  if (!exists || !run) return { exists, power: "stopped", reason: "", startedAt: null };
  const { bootId } = await host.facts();
  await machine.untilWrittenDown();
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
