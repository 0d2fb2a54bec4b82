import type { Client } from "@berth/api";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { audit } from "../faults/audit.ts";
import { type AppNode, startAppNode } from "../support/app-node.ts";
import { diskOf } from "../support/disks.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const blocks = 4;
const mostInstances = 4;
const mostSnapshots = 5;

/** What is on a disk: a byte for each of its first blocks. */
type Disk = readonly number[];

/** What there should be. */
interface Model {
  /** One that nothing has had yet. */
  readonly name: () => string;
  readonly instances: Map<string, { id: string; disk: Disk }>;
  readonly snapshots: Map<string, { of: string; disk: Disk }>;
}

type Real = ReturnType<typeof snapshotCalls>;

let node: AppNode;
let dataDir: string;
let client: Client;

beforeAll(async () => {
  node = await startAppNode("model");
  ({ client, dataDir } = node);
});

afterAll(() => node?.[Symbol.asyncDispose]());

/** One of what there is, by a number that may be larger. */
function pick<T>(from: ReadonlyMap<string, T>, index: number): [string, T] {
  const entries = [...from];
  const found = entries[index % entries.length];
  if (!found) throw new Error("There is nothing to pick from.");
  return found;
}

type Command = fc.AsyncCommand<Model, Real>;

/** A command of a sequence, and how it is told of when a sequence fails. */
function command(text: string, check: Command["check"], run: Command["run"]): Command {
  return { check, run, toString: () => text };
}

const some = (things: ReadonlyMap<string, unknown>) => things.size > 0;

const write = (which: number, at: number, byte: number) =>
  command(
    `write ${byte} at ${at} of instance ${which}`,
    ({ instances }) => some(instances),
    async ({ instances }) => {
      const [name, { id, disk }] = pick(instances, which);
      diskOf(dataDir, id).write(at, byte);
      instances.set(name, { id, disk: disk.with(at, byte) });
    },
  );

const snapshot = (which: number) =>
  command(
    `snapshot of instance ${which}`,
    ({ instances, snapshots }) => some(instances) && snapshots.size < mostSnapshots,
    async ({ instances, snapshots, name }, real) => {
      const [of, { disk }] = pick(instances, which);
      const { name: made } = await real.snapshot(of, name());
      snapshots.set(made, { of, disk });
    },
  );

const restore = (which: number, discard: boolean) =>
  command(
    `restore snapshot ${which}${discard ? ", discarding what was" : ""}`,
    ({ instances, snapshots }) => some(restorable(instances, snapshots)),
    async ({ instances, snapshots }, real) => {
      const [name, { of, disk }] = pick(restorable(instances, snapshots), which);
      const before = instances.get(of);
      const { kept } = await real.restore(name, { discard });
      expect(kept === null).toBe(discard);
      if (!before) return;
      instances.set(of, { id: before.id, disk });
      if (kept) snapshots.set(kept.name, { of, disk: before.disk });
    },
  );

/** Those whose instance is still there. */
function restorable(instances: Model["instances"], snapshots: Model["snapshots"]): Model["snapshots"] {
  return new Map([...snapshots].filter(([, { of }]) => instances.has(of)));
}

const launch = (which: number) =>
  command(
    `launch from snapshot ${which}`,
    ({ instances, snapshots }) => some(snapshots) && instances.size < mostInstances,
    async ({ instances, snapshots, name }, real) => {
      const [from, { disk }] = pick(snapshots, which);
      const made = await real.launch(from, { name: name(), start: false });
      instances.set(made.name, { id: made.id, disk });
    },
  );

/** Its parent runs for it; both are off afterwards. */
const fork = (which: number) =>
  command(
    `fork instance ${which}`,
    ({ instances }) => some(instances) && instances.size < mostInstances,
    async ({ instances }, real) => {
      const [of, { disk }] = pick(instances, which);
      await real.start(of);
      const [child] = await real.fork(of);
      if (!child) throw new Error("The fork has no child.");
      for (const one of [of, child.name]) await real.stop(one);
      instances.set(child.name, { id: child.id, disk });
    },
  );

const deleteSnapshot = (which: number) =>
  command(
    `delete snapshot ${which}`,
    ({ snapshots }) => some(snapshots),
    async ({ snapshots }, real) => {
      const [name] = pick(snapshots, which);
      await real.forget(name);
      snapshots.delete(name);
    },
  );

const deleteInstance = (which: number, withSnapshots: boolean) =>
  command(
    `delete instance ${which}${withSnapshots ? " with its snapshots" : ""}`,
    ({ instances }) => instances.size > 1,
    async ({ instances, snapshots }, real) => {
      const [name] = pick(instances, which);
      await real.remove(name, withSnapshots);
      instances.delete(name);
      if (withSnapshots) for (const [one, { of }] of [...snapshots]) if (of === name) snapshots.delete(one);
    },
  );

const index = fc.nat({ max: 9 });
const writes = fc.tuple(index, fc.nat({ max: blocks - 1 }), fc.integer({ min: 1, max: 255 }));
const commands = [
  // Twice: as often as it takes for most others to have something to keep.
  writes.map((args) => write(...args)),
  writes.map((args) => write(...args)),
  index.map(snapshot),
  fc.tuple(index, fc.boolean()).map((args) => restore(...args)),
  index.map(launch),
  index.map(fork),
  index.map(deleteSnapshot),
  fc.tuple(index, fc.boolean()).map((args) => deleteInstance(...args)),
];

it("whatever is written, snapshotted, restored, launched, forked and deleted in whatever order: every disk is as it should be, byte for byte", async () => {
  const calls = snapshotCalls(
    () => client,
    () => node.image,
  );
  const blank: Disk = Array.from({ length: blocks }, () => 0);
  const check = (model: Model) => {
    for (const [name, { id, disk }] of model.instances)
      expect(diskOf(dataDir, id).readFirst(blocks), `the disk of ${name}`).toEqual(disk);
  };
  const property = fc.asyncProperty(fc.commands(commands, { maxCommands: 25 }), async (sequence) => {
    let names = 0;
    const name = () => {
      names += 1;
      return `n${names}`;
    };
    const model: Model = { name, instances: new Map(), snapshots: new Map() };
    try {
      await fc.asyncModelRun(async () => {
        const { id, name: made } = await calls.create(name(), { start: false });
        model.instances.set(made, { id, disk: blank });
        return { model, real: calls };
      }, sequence);
      check(model);
      // What is only kept shows in an instance made of it.
      for (const [from, { disk }] of model.snapshots) {
        const made = await calls.launch(from, { name: name(), start: false });
        model.instances.set(made.name, { id: made.id, disk });
      }
      check(model);
      await audit(client, dataDir);
    } finally {
      await calls.removeAll();
    }
    await audit(client, dataDir);
  });
  await fc.assert(property, { numRuns: 12, endOnFailure: true });
});
