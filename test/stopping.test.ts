import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startBerthd } from "./support/berthd.ts";
import { eventually } from "./support/eventually.ts";
import { processesOf } from "./support/processes.ts";
import { scratchDirectory } from "./support/scratch.ts";

/** A QEMU that says its version, runs as long as it is let, and listens to nobody; and a data folder whose berthd finds it first. */
async function deafQemu() {
  const folder = await scratchDirectory("deaf");
  const asked = join(folder, "asked");
  const script = `#!/bin/sh\ncase "$1" in --version) echo asked > ${asked}; echo "QEMU emulator version 0.0"; exit;; esac\nexec tail -f /dev/null\n`;
  writeFileSync(join(folder, "qemu-system-x86_64"), script);
  chmodSync(join(folder, "qemu-system-x86_64"), 0o755);
  const dataDir = join(folder, "data");
  return { dataDir, asked, env: { PATH: `${folder}:${process.env.PATH}` } };
}

test("a berthd that is stopped while it finds out how guests run leaves nothing of that trial", async () => {
  const { dataDir, env } = await deafQemu();
  await using berthd = await startBerthd({ dataDir, env });
  const run = await eventually(() => {
    const record = JSON.parse(readFileSync(join(dataDir, "probe/probe/run.json"), "utf8"));
    expect(record).toMatchObject({ hypervisor: { pid: expect.any(Number) }, helpers: [{ pid: expect.any(Number) }] });
    return record;
  });
  expect(processesOf(dataDir).map(({ pid }) => pid)).toContain(run.hypervisor.pid);
  await berthd.stop();
  expect(await berthd.ended).toBeNull();
  expect(processesOf(dataDir)).toEqual([]);
  expect(readdirSync(join(dataDir, "probe"))).toEqual([]);
});

test("a berthd that cannot listen ends before it has begun anything that would go on", async () => {
  const { dataDir, asked, env } = await deafQemu();
  const taken = createServer().listen(0, "127.0.0.1");
  try {
    const { port } = await new Promise<{ port: number }>((resolve) =>
      taken.once("listening", () => resolve(taken.address() as { port: number })),
    );
    await expect(startBerthd({ dataDir, env, port })).rejects.toThrow(/is in use by another program/);
    expect(existsSync(asked)).toBe(false);
  } finally {
    taken.close();
  }
});
