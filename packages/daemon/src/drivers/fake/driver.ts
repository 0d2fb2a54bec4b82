import { randomBytes, randomUUID } from "node:crypto";
import { type Duplex, Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { BerthError } from "@berth/api";
import type { PortForward } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import type { CreateInputs, Driver, GuestPort, Handle, Observed, OwnerMark, ReadLogOptions } from "../driver.ts";
import { memoryUnusable } from "../memory-image.ts";
import { errorAt, isOn, type KnobName, type Knobs, knobsOfLabels, mayPass, numberOf } from "./knobs.ts";
import { readFakeLog } from "./log.ts";
import { factsOf, goOn, helloOf, isPoweredOn, isSilent, type MachineRecord, type Run, runState } from "./machine.ts";
import { type GuestMemory, readMemory } from "./memory.ts";
import { GuestPorts } from "./ports.ts";
import { runningChanges, shapeOfRecord } from "./running.ts";
import { type Shape, shapes } from "./shapes.ts";
import { World } from "./world.ts";

export interface FakeDriverOptions {
  readonly host: Pick<Host, "files"> & Partial<Pick<Host, "run">>;
  /** The folder that is the hypervisor: drivers with the same folder see the same machines. */
  readonly world: string;
  readonly location: string;
  readonly shape?: Shape;
  /** What goes wrong, for every machine; a machine's own knobs come first. */
  readonly knobs?: Knobs;
  /** Instead of the shape's own. */
  readonly lagMs?: number;
  /** What is there of the hypervisor: memory that another build saved cannot be gone on from. */
  readonly build?: string;
}

const handleVersion = 1;
const maxControlLines = 64;

/** A driver whose machines are files: everything but the machines is real. For tests of all that stands on a driver, and as an example of one. */
export function fakeDriver(options: FakeDriverOptions): Driver {
  const shape = shapes[options.shape ?? "full"];
  const world = new World(options.host.files, options.world, options.lagMs ?? shape.lagMs);
  const ports = new GuestPorts(world);

  /** Every call about a machine passes here: it counts, and fails when a knob says so. */
  async function enter(owner: OwnerMark, own: Knobs, call?: KnobName): Promise<Knobs> {
    const knobs = { ...options.knobs, ...own };
    const failAfter = numberOf(knobs, "fail-after");
    if (failAfter !== undefined && (await world.count(owner, "calls")) > failAfter) {
      throw new BerthError("host_program_failed", "The fake hypervisor does not answer any more: fail-after.");
    }
    if (call && knobs[call] !== undefined) {
      const error = errorAt(knobs, call, await world.count(owner, call));
      if (error) throw error;
    }
    return knobs;
  }

  async function enterById(
    handle: Handle,
    call?: KnobName,
  ): Promise<{ record: MachineRecord; knobs: Knobs } | undefined> {
    const record = await world.read(idOf(handle));
    return record ? { record, knobs: await enter(record.owner, record.knobs, call) } : undefined;
  }

  /** Waits until the outside sees what is so. */
  const settle = () => (world.lagMs > 0 ? delay(world.lagMs) : Promise.resolve());

  async function findRecord(owner: OwnerMark): Promise<MachineRecord | undefined> {
    return (await world.readAll()).find((record) => isOwnedBy(record, owner));
  }

  const build = (kitBuildId: string | null) => `${options.build ?? "fake 1"}, kit ${kitBuildId ?? "none"}`;

  async function refuseTakenPorts(record: MachineRecord, forwards: readonly PortForward[]): Promise<void> {
    for (const other of await world.readAll()) {
      if (other.id === record.id || !other.run || !isPoweredOn(other)) continue;
      for (const mine of forwards) {
        const taken = other.run.forwards.some(
          (theirs) =>
            theirs.hostPort === mine.hostPort &&
            theirs.protocol === mine.protocol &&
            theirs.hostAddress === mine.hostAddress,
        );
        if (taken)
          throw new BerthError(
            "port_taken",
            `Port ${mine.hostPort} of ${mine.hostAddress} is published by another machine.`,
          );
      }
    }
  }

  async function powerOff(handle: Handle, call?: KnobName): Promise<void> {
    const found = await enterById(handle, call);
    if (!found) return;
    await world.change(idOf(handle), (record) => {
      if (!record?.run || !isPoweredOn(record)) return record;
      return { ...record, run: { ...record.run, cutAt: Date.now() } };
    });
    ports.close(idOf(handle));
    await settle();
  }

  const driver: Driver = {
    name: "fake",
    location: options.location,
    abilities: shape.abilities,

    async probe() {
      return { healthy: true, reason: "" };
    },

    async create(inputs) {
      const own = knobsOfLabels(inputs.labels ?? {});
      const knobs = await enter(inputs.owner, own, "create-error");
      if (shape.localDisks) await refuseMissingDisks(options.host, inputs);
      const record = await world.exclusively(async () => {
        // A cloud takes the owner as the token of the request, and so knows it again at once.
        const present = await findRecord(inputs.owner);
        if (present) return present;
        const id = shape.ownIds ? `vm-${randomBytes(6).toString("hex")}` : `fake-${inputs.owner.instanceId}`;
        const made = newRecord(id, inputs, knobs);
        await world.make(made);
        return made;
      });
      await settle();
      const losses = numberOf(knobs, "lose-handle");
      if (losses !== undefined && (await world.count(inputs.owner, "lose-handle")) <= losses) {
        throw mayPass(
          new BerthError("host_program_failed", "The answer of the fake hypervisor got lost: lose-handle."),
        );
      }
      return { version: handleVersion, id: record.id };
    },

    async start(handle, signal, request = {}) {
      const found = await enterById(handle, "start-error");
      if (!found) throw new BerthError("host_program_failed", "The fake hypervisor has no such machine.");
      const block = numberOf(found.knobs, "start-block");
      if (block !== undefined) await delay(Math.min(block, 2 ** 31 - 1), undefined, { signal });
      signal.throwIfAborted();
      const { id } = found.record;
      let booted = false;
      await world.change(id, async (record) => {
        if (!record) return record;
        const paused = request.paused ?? false;
        if (record.run && isPoweredOn(record)) {
          return record.run.paused && !paused ? { ...record, run: unpaused(record.run) } : record;
        }
        if (request.memory && isOn(found.knobs, "memory-refused")) throw memoryUnusable("memory-refused");
        const memory =
          request.memory &&
          (await readMemory(
            options.host.files,
            request.memory.folder,
            shapeOfRecord(record, build(record.kitBuildId)),
          ));
        await refuseTakenPorts(record, record.forwards);
        if (memory) await world.writeFiles(id, memory.files);
        booted = memory === undefined;
        const run = newRun(record, memory, paused);
        return { ...record, run };
      });
      const message = found.knobs["boot-message"];
      if (booted && message !== undefined) await world.appendLog(id, message);
      ports.look(id);
      await settle();
    },

    async configure(handle, inputs) {
      const found = await enterById(handle);
      if (!found) throw new BerthError("host_program_failed", "The fake hypervisor has no such machine.");
      const { id } = found.record;
      const knobs = { ...found.record.knobs, ...knobsOfLabels(inputs.labels ?? {}) };
      await world.change(id, (record) => record && { ...newRecord(id, inputs, knobs), run: record.run });
      await settle();
    },

    powerOff: (handle) => powerOff(handle, "power-off-error"),

    async pressPowerButton(handle) {
      const found = await enterById(handle);
      if (!found) return;
      await world.change(found.record.id, (record) => {
        if (!record?.run || record.run.stop) return record;
        return {
          ...record,
          run: { ...record.run, stop: { at: Date.now(), signal: 15, timeoutMs: Number.MAX_SAFE_INTEGER } },
        };
      });
      ports.look(found.record.id);
    },

    async destroy(handle) {
      const found = await enterById(handle, "destroy-error");
      if (!found) return;
      await powerOff(handle);
      await world.change(found.record.id, () => null);
      await world.forgetCounts(found.record.owner);
      await settle();
    },

    async inspect(handle) {
      const record = await world.see(idOf(handle));
      if (!record) return { exists: false, power: "stopped", reason: "", startedAt: null };
      const knobs = await enter(record.owner, record.knobs);
      const seen = observed(record);
      const flaps = numberOf(knobs, "power-flaps");
      if (
        seen.power === "running" &&
        flaps !== undefined &&
        (await world.count(record.owner, "power-flaps")) <= flaps
      ) {
        return { ...seen, power: "stopped", reason: "the fake hypervisor lost sight of it", startedAt: null };
      }
      return seen;
    },

    async find(owner) {
      const seen = (await world.seeAll()).find((record) => isOwnedBy(record, owner));
      if (seen) return { version: handleVersion, id: seen.id };
      // What was made a moment before may not show yet: only a second look can say that there is nothing.
      if (world.lagMs === 0) return undefined;
      await settle();
      const later = (await world.seeAll()).find((record) => isOwnedBy(record, owner));
      return later && { version: handleVersion, id: later.id };
    },

    async list(installationId) {
      await settle();
      const records = (await world.seeAll()).filter((record) => record.owner.installationId === installationId);
      return records.map((record) => ({ owner: record.owner, handle: { version: handleVersion, id: record.id } }));
    },
  };
  if (shape.memory) {
    const parts = { host: options.host, world, enterById, refuseTakenPorts, powerOff, settle, build };
    Object.assign(driver, runningChanges(parts));
  }
  if (!shape.guestPorts) return driver;

  return {
    ...driver,

    async openPort(handle, port, signal): Promise<Duplex> {
      const record = await world.read(idOf(handle));
      if (!record || !isPoweredOn(record)) {
        throw new BerthError("instance_not_running", "The fake machine is off.");
      }
      return ports.open(record.id, port satisfies GuestPort, signal);
    },

    readLog(handle, readOptions: ReadLogOptions) {
      return Readable.from(readFakeLog(world, idOf(handle), readOptions), { objectMode: false });
    },

    async readControlLog(handle) {
      const record = await world.read(idOf(handle));
      if (!record?.run || isSilent(record)) return [];
      const now = Date.now();
      const said = factsOf(record).filter((fact) => fact.at <= now);
      const hello = {
        at: record.run.startedAt,
        line: { ...helloOf({ ...record, run: { ...record.run, config: null } }, record.run.startedAt) },
      };
      return [hello, ...said].slice(-maxControlLines).map((fact) => JSON.stringify(fact.line));
    },
  };
}

function idOf(handle: Handle): string {
  if (handle.version !== handleVersion || typeof handle.id !== "string") {
    throw new BerthError("internal", "That is no handle of the fake driver.");
  }
  return handle.id;
}

function isOwnedBy(record: MachineRecord, owner: OwnerMark): boolean {
  return record.owner.installationId === owner.installationId && record.owner.instanceId === owner.instanceId;
}

function newRecord(id: string, inputs: CreateInputs, knobs: Knobs): MachineRecord {
  return {
    version: 1,
    id,
    owner: { installationId: inputs.owner.installationId, instanceId: inputs.owner.instanceId },
    name: inputs.name,
    cpus: inputs.cpus,
    memoryMib: inputs.memoryMib,
    disks: inputs.disks.map(({ name, path, format, readOnly }) => ({ name, path, format, readOnly })),
    interfaces: inputs.nics.length,
    kitBuildId: inputs.kit?.buildId ?? null,
    forwards: inputs.nics.flatMap((nic) => nic.forwards),
    knobs,
    run: null,
  };
}

/** How a run begins: by booting, or where the memory left off. */
function newRun(record: MachineRecord, memory: GuestMemory | undefined, paused: boolean): Run {
  const now = Date.now();
  const fresh = {
    startedAt: now,
    paused,
    generation: randomBytes(10).toString("hex"),
    forwards: record.forwards,
    overlays: {},
    cutAt: null,
  };
  if (!memory) {
    const stoodSince = paused ? now : null;
    return { ...fresh, bootId: randomUUID(), bootedAt: now, stoodSince, held: null, config: null, stop: null };
  }
  const run = { ...memory.run, ...fresh };
  return paused ? run : unpaused(run);
}

/** A guest that holds its programs goes on with them only once it is told who it is. */
function unpaused(run: Run): Run {
  return { ...(run.held ? run : goOn(run, Date.now())), paused: false };
}

async function refuseMissingDisks(host: Pick<Host, "files">, inputs: CreateInputs): Promise<void> {
  for (const disk of inputs.disks) {
    if (!(await host.files.exists(disk.path))) {
      throw new BerthError("host_program_failed", `The disk ${disk.name} is not there.`);
    }
  }
}

function observed(record: MachineRecord): Observed {
  const state = runState(record, Date.now());
  const power = state?.power ?? "stopped";
  return {
    exists: true,
    power,
    reason: state?.reason ?? "",
    startedAt: power === "stopped" ? null : (record.run?.startedAt ?? null),
  };
}
