import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type { PortForward } from "../core/descriptions.ts";
import { proveChanges } from "./contract-changes.ts";
import { proveMemory } from "./contract-memory.ts";
import type { CreateInputs, Driver, Handle, Observed, OwnerMark } from "./driver.ts";

/** What the suite needs of a place where a driver works. */
export interface DriverHarness {
  /** The installation that `driver()` belongs to. */
  readonly installationId: string;
  /** A new driver object over the same place: what a daemon has after its restart. */
  driver(): Driver;
  /** A driver of another installation over the same place. */
  foreign(): Driver;
  /** What makes an instance whose guest runs until its power is cut. */
  inputs(owner: OwnerMark, forwards: readonly PortForward[]): Promise<CreateInputs>;
  /** A port that nobody has. */
  freePort(): Promise<number>;
  /** For drivers that save memory, and whose guests answer which boot of theirs it is. */
  readonly memory?: MemoryHarness;
  /** Called once after the suite. */
  close?(): Promise<void>;
}

/** What the suite needs to save memory and to change machines that run. */
export interface MemoryHarness {
  /** What makes an instance with a disk `root`, whose guest answers `bootId`. */
  inputs(owner: OwnerMark, forwards: readonly PortForward[]): Promise<CreateInputs>;
  /** A path, on the node, where a folder may be put. */
  folder(): Promise<string>;
  /** An empty overlay over what the disk is now, ready to be switched to. */
  overlay(owner: OwnerMark, disk: string): Promise<string>;
  /** Opens a disk's file as a machine does that only stands on it. Rejects when another still writes to it, or may. */
  standOn(owner: OwnerMark, path: string): Promise<void>;
  /** What the running guest says its kernel's boot is called: another for each boot, the same for all that go on from its memory. */
  bootId(handle: Handle): Promise<string>;
}

/** What the suite's parts share. */
export interface Bench {
  harness(): DriverHarness;
  memory(): MemoryHarness;
  signal(): AbortSignal;
  /** Makes an instance with a disk; it is destroyed after the test. */
  make(forwards?: readonly PortForward[], change?: Partial<CreateInputs>): Promise<Made>;
  seen(handle: Handle, expected: Partial<Observed>): Promise<void>;
}

export interface Made {
  readonly owner: OwnerMark;
  readonly inputs: CreateInputs;
  readonly handle: Handle;
}

/** How long a place may take to show what was done, and a guest to its first line. */
const patienceMs = 60_000;

/** Proves that a driver keeps its contract; driver.ts has its words. */
export function driverContract(
  name: string,
  options: {
    /** A line that its guest writes to the console by itself; null for a guest that says nothing unasked, or cannot be read. */
    readonly output: string | null;
    /** Whether it saves memory and changes machines that run. */
    readonly memory?: boolean;
  },
  makeHarness: () => Promise<DriverHarness>,
): void {
  describe(`the driver contract: ${name}`, () => {
    let harness: DriverHarness;
    const made: Handle[] = [];

    beforeAll(async () => {
      harness = await makeHarness();
      return () => harness.close?.();
    });

    afterEach(async () => {
      const driver = harness.driver();
      for (const handle of made.splice(0)) await driver.destroy(handle);
    });

    const signal = () => AbortSignal.timeout(patienceMs);
    const newOwner = (): OwnerMark => {
      const instanceId = `i-${randomBytes(9).toString("hex").slice(0, 17)}`;
      return { installationId: harness.installationId, instanceId };
    };
    const make = async (forwards: readonly PortForward[] = []) => {
      const owner = newOwner();
      const inputs = await harness.inputs(owner, forwards);
      const handle = await harness.driver().create(inputs);
      made.push(handle);
      return { owner, inputs, handle };
    };
    /** Looks until it is so: some places show a change late. */
    const seen = (handle: Handle, expected: Partial<Observed>) =>
      eventually(async () => expect(await harness.driver().inspect(handle)).toMatchObject(expected));

    test("makes an instance once, stopped", async () => {
      const { inputs, handle } = await make();
      expect(await harness.driver().create(inputs)).toEqual(handle);
      await seen(handle, { exists: true, power: "stopped", startedAt: null });
      expect(handle.version).toBeGreaterThan(0);
      expect(JSON.parse(JSON.stringify(handle))).toEqual(handle);
    });

    test("starts it, and cuts its power, as often as it is asked", async () => {
      const { handle } = await make();
      await harness.driver().start(handle, signal());
      await harness.driver().start(handle, signal());
      await seen(handle, { exists: true, power: "running", startedAt: expect.any(Number) });
      const { startedAt } = await harness.driver().inspect(handle);
      await harness.driver().start(handle, signal());
      expect((await harness.driver().inspect(handle)).startedAt).toBe(startedAt);
      await harness.driver().powerOff(handle);
      await harness.driver().powerOff(handle);
      await seen(handle, { exists: true, power: "stopped", startedAt: null });
      await harness.driver().start(handle, signal());
      await seen(handle, { power: "running" });
    });

    test("destroys it, running or not, as often as it is asked", async () => {
      const [running, stopped] = [await make(), await make()];
      await harness.driver().start(running.handle, signal());
      for (const { handle, owner } of [running, stopped]) {
        await harness.driver().destroy(handle);
        await harness.driver().destroy(handle);
        await seen(handle, { exists: false, power: "stopped" });
        await harness.driver().powerOff(handle);
        await eventually(async () => expect(await harness.driver().find(owner)).toBeUndefined());
        await expect(harness.driver().start(handle, signal())).rejects.toThrow();
      }
    });

    test("finds it by its owner's mark alone, running or not", async () => {
      const { owner, handle } = await make();
      const found = async () => {
        expect(await harness.driver().find(owner)).toEqual(handle);
        expect(await harness.driver().list(owner.installationId)).toContainEqual({ owner, handle });
      };
      await eventually(found);
      await harness.driver().start(handle, signal());
      await eventually(found);
      expect(await harness.driver().find(newOwner())).toBeUndefined();
    });

    test("leaves another installation's instances alone", async () => {
      const { owner, handle } = await make();
      await harness.driver().start(handle, signal());
      const theirs = { ...owner, installationId: `${owner.installationId}-other` };
      expect(await harness.foreign().find(theirs)).toBeUndefined();
      expect(await harness.foreign().list(theirs.installationId)).toEqual([]);
      expect(await harness.driver().find(theirs)).toBeUndefined();
      expect(await harness.driver().list(theirs.installationId)).toEqual([]);
      await seen(handle, { power: "running" });
    });

    test("refuses a port that is taken, leaves nothing running, and starts once it is free", async () => {
      const hostPort = await harness.freePort();
      const forwards = [{ hostAddress: "127.0.0.1", hostPort, guestPort: 80, protocol: "tcp" as const }];
      const [first, second] = [await make(forwards), await make(forwards)];
      await harness.driver().start(first.handle, signal());
      const refused = harness.driver().start(second.handle, signal());
      await expect(refused).rejects.toMatchObject({
        code: "port_taken",
        message: expect.stringContaining(String(hostPort)),
      });
      await seen(second.handle, { exists: true, power: "stopped" });
      await harness.driver().powerOff(first.handle);
      await harness.driver().start(second.handle, signal());
      await seen(second.handle, { power: "running" });
    });

    test("has what it says it can do, and nothing else", async () => {
      const driver = harness.driver();
      const { console, channel } = driver.abilities;
      expect(driver.abilities.boots.length).toBeGreaterThan(0);
      expect(driver.openPort !== undefined).toBe(console || channel);
      expect(driver.readLog !== undefined).toBe(console);
      expect(driver.readControlLog !== undefined).toBe(channel);
      const { snapshots, templates } = driver.abilities;
      for (const method of ["saveMemory", "memoryBuild"] as const)
        expect(driver[method] !== undefined).toBe(snapshots || templates);
      for (const method of ["switchDisks", "activeDisks"] as const)
        expect(driver[method] !== undefined).toBe(snapshots);
      const { handle } = await make();
      await driver.start(handle, signal());
      const open = [...(console ? ["console" as const] : []), ...(channel ? (["control", "channel"] as const) : [])];
      for (const port of open) {
        const stream = await driver.openPort?.(handle, port, signal());
        stream?.on("error", () => {}).destroy();
        expect(stream).toBeDefined();
      }
      await driver.powerOff(handle);
      for (const port of open) {
        await expect(driver.openPort?.(handle, port, signal())).rejects.toMatchObject({ code: "instance_not_running" });
      }
      expect(await driver.probe(signal())).toMatchObject({ healthy: true });
    });

    const { output } = options;
    if (output !== null)
      test("keeps what the guest wrote, past its end, until it is destroyed; who follows is let go at its end", async () => {
        const { handle } = await make();
        const read = async (options: { tail?: number; follow?: boolean; timestamps?: boolean }) => {
          const stream = harness
            .driver()
            .readLog?.(handle, { follow: false, timestamps: false, signal: signal(), ...options });
          return stream ? await firstWith(stream, output, options.follow ?? false) : "";
        };
        expect(await read({})).toBe("");
        await harness.driver().start(handle, signal());
        expect(await read({ follow: true })).toContain(`${output}\n`);
        const toTheEnd = harness.driver().readLog?.(handle, { follow: true, timestamps: false, signal: signal() });
        const followedToTheEnd = toTheEnd && firstWith(toTheEnd, output, false);
        await harness.driver().powerOff(handle);
        expect(await followedToTheEnd).toContain(`${output}\n`);
        expect(await read({})).toContain(`${output}\n`);
        expect(await read({ timestamps: true })).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z /);
        expect((await read({ tail: 1 })).split("\n")).toHaveLength(2);
        expect(await read({ tail: 0 })).toBe("");
        const followed = harness.driver().readLog?.(handle, { follow: true, timestamps: false, signal: signal() });
        expect(followed && (await firstWith(followed, output, false))).toContain(`${output}\n`);
      });

    if (!options.memory) return;
    const bench: Bench = {
      harness: () => harness,
      memory: () => {
        if (!harness.memory) throw new Error("The harness has nothing to save memory with");
        return harness.memory;
      },
      signal,
      async make(forwards = [], change = {}) {
        const owner = newOwner();
        const inputs = { ...(await bench.memory().inputs(owner, forwards)), ...change };
        const handle = await harness.driver().create(inputs);
        made.push(handle);
        return { owner, inputs, handle };
      },
      seen,
    };
    proveMemory(bench);
    proveChanges(bench);
  });
}

async function eventually(check: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + patienceMs;
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, 500)) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await delay(pauseMs);
    }
  }
}

/** What a stream gives, to its end or, when followed, until it has that text. */
async function firstWith(stream: AsyncIterable<unknown>, text: string, followed: boolean): Promise<string> {
  let all = "";
  for await (const chunk of stream) {
    all += String(chunk);
    if (followed && all.includes(`${text}\n`)) break;
  }
  return all;
}
