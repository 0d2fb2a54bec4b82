import { closeSync, existsSync, openSync, readdirSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { audit } from "../faults/audit.ts";
import { type AppNode, startAppNode } from "../support/app-node.ts";
import { diskOf, frozenFiles, standsOn } from "../support/disks.ts";
import { eventually } from "../support/eventually.ts";
import { expectFailed } from "../support/refusals.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const long = { wait: 60 } as const;

let node: AppNode;
let image: string;
let dataDir: string;
let client: Client;

beforeAll(async () => {
  node = await startAppNode("merged", { BERTH_LOG_LEVEL: "error" });
  ({ client, dataDir, image } = node);
});

afterAll(() => node?.[Symbol.asyncDispose]());

afterEach(async () => {
  await removeAll();
  await audit(client, dataDir);
  expect(readdirSync(join(dataDir, "snapshots"))).toEqual([]);
});

const { create, snapshot, launch, fork, stop, remove, forget, removeAll } = snapshotCalls(
  () => client,
  () => image,
);
const createOff = (name: string) => create(name, { start: false });
const get = (name: string) => client.getSnapshot({ params: { snapshot: name } });

const untilFrozen = (count: number) => eventually(() => expect(frozenFiles(dataDir)).toHaveLength(count));

describe("files that no snapshot needs any more", () => {
  it("are merged, however many snapshots of a disk come and go, and what the disk and the others have stays", async () => {
    const { id } = await createOff("web");
    const disk = diskOf(dataDir, id);
    const written = Array.from({ length: 16 }, () => 0);
    const kept = new Map<string, readonly number[]>();
    for (let round = 0; round < 24; round += 1) {
      written[round % 16] = round + 1;
      disk.write(round % 16, round + 1);
      const name = `s${round}`;
      await snapshot("web", name);
      if (round % 8 === 7) kept.set(name, [...written]);
      else await forget(name);
    }
    // Three are kept, and the last one's file is below the disk.
    await untilFrozen(kept.size);
    expect(standsOn(disk.path)).toBe(kept.size);
    expect(disk.readFirst(16)).toEqual(written);
    for (const [name, then] of kept) {
      expect((await client.verifySnapshot({ params: { snapshot: name }, query: long })).operation.error).toBeNull();
      const made = await launch(name, { name: `of-${name}`, start: false });
      expect(diskOf(dataDir, made.id).readFirst(16), name).toEqual(then);
    }
  });

  it("are counted no longer: what the snapshots say that they hold is what there is", async () => {
    const { id } = await createOff("web");
    const disk = diskOf(dataDir, id);
    for (const name of ["one", "two", "three"]) {
      // The same blocks again and again: merged they take the room of one.
      disk.write(0, 1, 512);
      await snapshot("web", name);
    }
    const before = await get("three");
    await forget("two");
    await untilFrozen(2);
    await eventually(async () => expect((await get("three")).sharedBytes).toBeLessThan(before.sharedBytes * 0.8));
    const bytes = () => frozenFiles(dataDir).reduce((sum, path) => sum + statSync(path).blocks * 512, 0);
    expect((await get("three")).sharedBytes).toBe(bytes());
    await remove("web");
    await forget("one");
    await untilFrozen(1);
    await eventually(async () => expect(await get("three")).toMatchObject({ ownBytes: bytes(), sharedBytes: 0 }));
  });

  it("stay as long as two stand on them", async () => {
    const { id } = await create("web");
    const disk = diskOf(dataDir, id);
    disk.write(0, 1);
    const [child] = await fork("web");
    disk.write(1, 2);
    const [second] = await fork("web");
    for (const one of ["web", child?.name, second?.name]) await stop(one ?? "");
    const seen = () => [id, child?.id, second?.id].map((one) => diskOf(dataDir, one ?? "").readFirst(2));
    const before = seen();
    expect(before).toEqual([
      [1, 2],
      [1, 0],
      [1, 2],
    ]);
    expect(frozenFiles(dataDir)).toHaveLength(2);
    await snapshot("web", "one");
    await forget("one");
    await untilFrozen(3);
    expect(seen()).toEqual(before);
    // With the first child nobody but the next file stands on the first one.
    await remove(child?.name ?? "");
    await untilFrozen(2);
    await remove(second?.name ?? "");
    await untilFrozen(1);
    expect(diskOf(dataDir, id).readFirst(2)).toEqual([1, 2]);
  });

  it("stay where they are as long as somebody reads them", async () => {
    const { id } = await createOff("web");
    for (const [at, name] of ["one", "two", "three"].entries()) {
      diskOf(dataDir, id).write(at, at + 1);
      await snapshot("web", name);
    }
    const upper = frozenFiles(dataDir).find((path) => standsOn(path) === 2) ?? "";
    const lower = frozenFiles(dataDir).find((path) => standsOn(path) === 1) ?? "";
    // As a program that has opened the one, has read on what it stands, and opens that next.
    const reader = openSync(upper, "r");
    await forget("two");
    await eventually(() => expect(standsOn(upper)).toBe(1));
    const former = () => readdirSync(join(upper, "..")).filter((name) => name.includes(".replaced-"));
    // Any snapshot that comes or goes is a reason to look again.
    await snapshot("web", "four");
    await forget("four");
    expect([former().length, existsSync(lower)]).toEqual([1, true]);
    closeSync(reader);
    await snapshot("web", "five");
    await eventually(() => expect([former().length, existsSync(lower)]).toEqual([0, false]));
    expect(diskOf(dataDir, id).readFirst(3)).toEqual([1, 2, 3]);
  });

  it("are not merged when they are damaged: nothing passes for sound that is not", async () => {
    const { id } = await createOff("web");
    for (const [at, name] of ["one", "two"].entries()) {
      diskOf(dataDir, id).write(at, at + 1);
      await snapshot("web", name);
    }
    const [first = ""] = frozenFiles(dataDir).filter((path) => standsOn(path) === 0);
    const file = openSync(first, "r+");
    writeSync(file, Buffer.from("!"), 0, 1, statSync(first).size - 100);
    closeSync(file);
    await forget("one");
    // Whatever was merged before this one is, the next is merged after it was tried.
    await createOff("other");
    for (const name of ["three", "four"]) await snapshot("other", name);
    await forget("three");
    await untilFrozen(3);
    const verified = client.verifySnapshot({ params: { snapshot: "two" }, query: long });
    await expectFailed(verified, "snapshot_damaged", "checksum");
  });
});
