import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { identifyProcess } from "../packages/daemon/src/host/processes.ts";
import { startBerthd } from "./support/berthd.ts";
import { buildBusybox, busyboxImage } from "./support/busybox-image.ts";
import { tablesOf } from "./support/firewall-tables.ts";
import { processesOf } from "./support/processes.ts";
import { runPurge } from "./support/purge.ts";
import { scratchDirectory } from "./support/scratch.ts";

const fake = { BERTH_DRIVER: "fake" };

test("purge stops berthd, removes its machines and its folder, and the same again finds nothing", async () => {
  const dataDir = join(await scratchDirectory("purge"), "data");
  await using berthd = await startBerthd({ dataDir, env: fake });
  const first = await runPurge(dataDir);
  expect(first).toMatchObject({ code: 0 });
  expect(first.said).toEqual([`Stopped berthd (process ${berthd.pid}).`, `Removed ${dataDir}.`]);
  expect(await berthd.ended).toBeNull();
  expect(existsSync(dataDir)).toBe(false);
  expect(await runPurge(dataDir)).toEqual({ code: 0, said: [`There is nothing at ${dataDir}.`] });
});

test("purge leaves alone a folder that is not Berth's, and in Berth's own what is not", async () => {
  const dataDir = join(await scratchDirectory("purge"), "data");
  mkdirSync(dataDir);
  writeFileSync(join(dataDir, "berth.db"), "a name alone proves nothing");
  expect(await runPurge(dataDir)).toEqual({
    code: 1,
    said: [`berthd: ${dataDir} is not a data folder of Berth: it has neither node.json nor a berthd's lock.`],
  });
  expect(existsSync(join(dataDir, "berth.db"))).toBe(true);

  const shared = join(await scratchDirectory("purge"), "data");
  await using berthd = await startBerthd({ dataDir: shared, env: fake });
  await berthd.stop();
  writeFileSync(join(shared, "letter.txt"), "mine");
  expect((await runPurge(shared)).said).toEqual([
    `Removed what Berth had in ${shared}, and left what is not its: letter.txt.`,
  ]);
  expect(existsSync(join(shared, "letter.txt"))).toBe(true);
});

test.runIf(process.getuid?.() === 0)(
  "purge empties a folder that its user may not remove itself, and the same again finds nothing",
  async () => {
    const dataDir = join(await scratchDirectory("purge"), "data");
    await using berthd = await startBerthd({ dataDir, env: fake, ordinaryUser: true });
    expect(await runPurge(dataDir, { ordinaryUser: true })).toEqual({
      code: 0,
      said: [`Stopped berthd (process ${berthd.pid}).`, `Emptied ${dataDir}, which cannot be removed itself (EACCES).`],
    });
    expect(readdirSync(dataDir)).toEqual([]);
    expect(await runPurge(dataDir, { ordinaryUser: true })).toEqual({
      code: 0,
      said: [`There is nothing in ${dataDir}.`],
    });
  },
);

test("purge never signals a process that merely has the pid of the berthd it looks for", async () => {
  const dataDir = join(await scratchDirectory("purge"), "data");
  await using berthd = await startBerthd({ dataDir, env: fake });
  const mine = identifyProcess(process.pid);
  writeFileSync(join(dataDir, "lock"), JSON.stringify({ ...mine, startTicks: "1" }));
  expect(await runPurge(dataDir)).toMatchObject({
    code: 1,
    said: [expect.stringContaining("could not be stopped from here")],
  });
  await berthd.client.listNodes();
});

test("purge ends real machines that nobody looks after any more, and takes the firewall's table away", async () => {
  const scratch = await scratchDirectory("purge");
  const dataDir = join(scratch, "data");
  await using berthd = await startBerthd({ dataDir });
  await buildBusybox(berthd.client, scratch);
  const { instance, operation } = await berthd.client.createInstance({
    query: { wait: 120 },
    body: { image: busyboxImage, name: "web", memoryMib: 128, ports: [{ guestPort: 80 }] },
  });
  expect(operation.error).toBeNull();
  await berthd.kill();
  const isRoot = process.getuid?.() === 0;
  expect(processesOf(dataDir).some((one) => one.commandLine.includes(instance.id))).toBe(true);
  expect(tablesOf(dataDir)).toHaveLength(isRoot ? 1 : 0);
  expect(await runPurge(dataDir)).toEqual({
    code: 0,
    said: [`Removed the machine of ${instance.id}.`, `Removed ${dataDir}.`],
  });
  expect(processesOf(dataDir)).toEqual([]);
  expect(tablesOf(dataDir)).toEqual([]);
  expect(existsSync(dataDir)).toBe(false);
});
