import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Instance } from "@berth/api";
import { expect, test } from "vitest";
import { audit } from "../faults/audit.ts";
import { accelerated, auditQemu } from "../faults/audit-qemu.ts";
import { startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { freePort } from "../support/ports.ts";
import { runPurge } from "../support/purge.ts";
import { berthOf } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";

test("a real instance is exported, all of Berth purged, and imported elsewhere: its data is there, and its program runs", async () => {
  const scratch = await scratchDirectory("trip");
  const file = join(scratch, "web.berth");
  const port = await freePort();
  const here = join(scratch, "here");
  {
    await using berthd = await startBerthd({ dataDir: here });
    const cli = berthOf(berthd);
    await buildBusybox(berthd.client, scratch);
    await cli.berth("launch", busyboxImage, "--name", "web", "-p", `${port}:80`, "--memory", "128M", "-e", "A=b");
    await cli.berth("exec", "web", "--", "sh", "-c", "head -c 3000000 /dev/urandom > /data; sha256sum /data > /sum");
    await cli.berth("stop", "web");
    await cli.berth("export", "web", "-o", file);
  }
  expect(await runPurge(here)).toMatchObject({ code: 0 });
  expect(existsSync(here)).toBe(false);

  const there = join(scratch, "there");
  await using berthd = await startBerthd({ dataDir: there });
  await accelerated(there);
  const cli = berthOf(berthd);
  expect(await cli.berth("import", file, "--name", "moved")).toBe("moved\n");
  const moved = await cli.json<Instance>("show", "moved");
  expect(moved).toMatchObject({ image: busyboxImage, spec: { env: { A: "b" } }, status: { ready: true } });
  // Nobody has the port here, so it is the one it was.
  expect(moved.status.ports).toMatchObject([{ hostPort: port }]);
  const [data, sum] = await Promise.all(["data", "sum"].map((name) => fetch(`http://127.0.0.1:${port}/${name}`)));
  expect((await data?.arrayBuffer())?.byteLength).toBe(3_000_000);
  expect(await sum?.text()).toContain("/data");
  expect(await cli.berth("exec", "moved", "--", "sh", "-c", "sha256sum -c /sum; hostname")).toBe("/data: OK\nmoved\n");
  // What is written to it is written to disks of its own, and it lives as any other.
  await cli.berth("exec", "moved", "--", "sh", "-c", "echo more > /more");
  await cli.berth("restart", "moved");
  expect(await (await fetch(`http://127.0.0.1:${port}/more`)).text()).toBe("more\n");
  await auditQemu(berthd.client, there, berthd.pid);
  await cli.berth("rm", "--force", "moved");
  await audit(berthd.client, there, async () => []);
});
