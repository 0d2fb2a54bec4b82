import { appendFileSync } from "node:fs";
import { join } from "node:path";
import type { Instance } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { accelerated, auditQemu } from "../faults/audit-qemu.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox } from "../support/busybox-image.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { berthOf, type RunBerth } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";

const image = "localhost/volumes:latest";

describe.each(whoRunsBerthd)("volumes of machines of a berthd as $who", ({ ordinaryUser }) => {
  let scratch: string;
  let dataDir: string;
  let berthd: Berthd;
  let cli: RunBerth;

  beforeAll(async () => {
    scratch = await scratchDirectory("vq");
    dataDir = join(scratch, "d");
    berthd = await startBerthd({ dataDir, ordinaryUser, env: { BERTH_LOG_LEVEL: "warn", BERTH_TEMPLATES: "asked" } });
    cli = berthOf(berthd);
    await buildBusybox(berthd.client, scratch);
    const context = join(scratch, "busybox");
    const lines = ["COPY --chown=7:8 busybox /data/seed", "VOLUME /data /var/made"];
    appendFileSync(join(context, "Dockerfile"), `${lines.join("\n")}\n`);
    await cli.berth("image", "build", context, "-t", image);
    await accelerated(dataDir);
    await cli.berth("launch", image, "--name", "db", "-m", "128M", "-p", "80");
  });
  afterAll(async () => {
    if (!berthd) return;
    for (const { name } of await cli.json<Instance[]>("ls")) await cli.berth("rm", "--force", "--snapshots", name);
    await auditQemu(berthd.client, dataDir, berthd.pid);
    await berthd.stop();
  });

  const sh = (name: string, script: string) => cli.berth("exec", name, "--", "/bin/sh", "-c", script);
  const write = (text: string) =>
    sh("db", `echo ${text} > /data/note; echo ${text} > /var/made/note; /bin/busybox sync`);
  const notes = (name: string) => sh(name, "/bin/busybox cat /data/note /var/made/note");

  it("begin as the image's folders, on a disk of their own", async () => {
    expect(
      await sh("db", "/bin/busybox stat -c '%u:%g' /data/seed; /bin/busybox mount | /bin/busybox grep -c vdb"),
    ).toBe("7:8\n2\n");
    expect((await cli.json<Instance>("show", "db")).spec.disks.map(({ name }) => name)).toEqual(["root", "volumes"]);
  });

  it("are in snapshots, in what is restored and in what is forked", async () => {
    await write("then");
    await cli.berth("snapshot", "create", "db", "--name", "point");
    await write("now");
    await cli.berth("fork", "db", "--name", "child");
    expect(await notes("child")).toBe("now\nnow\n");
    await sh("child", "echo own > /data/note");
    expect(await notes("db")).toBe("now\nnow\n");
    await cli.berth("rm", "--force", "child");
    await cli.berth("snapshot", "restore", "point", "--force", "--discard", "--yes");
    expect(await notes("db")).toBe("then\nthen\n");
  });

  it("are there after a restart, a sleep, and a kill of the machine", async () => {
    await write("kept");
    await cli.berth("suspend", "db");
    await cli.berth("resume", "db");
    expect(await notes("db")).toBe("kept\nkept\n");
    await cli.berth("stop", "--force", "db");
    await cli.berth("start", "db");
    expect(await notes("db")).toBe("kept\nkept\n");
  });

  it("begin warm, from the image of this instance's snapshot as its root disk has them", async () => {
    await write("live");
    await cli.berth("snapshot", "create", "db", "--name", "golden");
    await cli.berth("snapshot", "promote", "golden", "web:golden");
    await cli.berth("launch", "web:golden", "--name", "copy", "-m", "128M", "--warm");
    expect(await sh("copy", "/bin/busybox ls /data /var/made")).toBe("/data:\nseed\n\n/var/made:\n");
    expect((await cli.json<Instance>("show", "copy")).status.start?.mode).toBe("warm");
    await sh("copy", "echo of-copy > /data/note && echo of-copy > /var/made/note");
    await cli.berth("rm", "--force", "copy");
  });

  it("are in an exported file, and in what is imported", async () => {
    await write("packed");
    await cli.berth("stop", "db");
    const file = join(scratch, "db.berth");
    await cli.berth("export", "db", "-o", file);
    await cli.berth("import", file, "--name", "moved");
    expect(await notes("moved")).toBe("packed\npacked\n");
    expect(await sh("moved", "/bin/busybox mount | /bin/busybox grep -c vdb")).toBe("2\n");
  });

  it("grow with the root disk while it runs", async () => {
    await cli.berth("set", "moved", "--disk", "3G");
    const sizes = await sh("moved", "for f in / /data; do /bin/busybox df -m $f | /bin/busybox tail -n 1; done");
    const mebibytes = sizes
      .trim()
      .split("\n")
      .map((line) => Number(line.split(/\s+/)[1]));
    for (const size of mebibytes) expect(size).toBeGreaterThan(2500);
    expect(mebibytes).toHaveLength(2);
  });
});
