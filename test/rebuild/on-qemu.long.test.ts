import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Instance } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { accelerated, auditQemu } from "../faults/audit-qemu.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox } from "../support/busybox-image.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { berthOf, type RunBerth } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe.each(whoRunsBerthd)("a machine of a berthd as $who, rebuilt", ({ ordinaryUser }) => {
  let scratch: string;
  let dataDir: string;
  let berthd: Berthd;
  let cli: RunBerth;

  /** The next version of an image whose web server shows all there is. */
  const version = async (number: number) => {
    const context = join(scratch, "busybox");
    writeFileSync(join(context, "version"), `${number}\n`);
    await cli.berth("image", "build", context, "-t", "db:latest");
  };

  beforeAll(async () => {
    scratch = await scratchDirectory("rq");
    dataDir = join(scratch, "d");
    berthd = await startBerthd({ dataDir, ordinaryUser, env: { BERTH_LOG_LEVEL: "warn", BERTH_TEMPLATES: "asked" } });
    cli = berthOf(berthd);
    await buildBusybox(berthd.client, scratch);
    appendFileSync(join(scratch, "busybox", "Dockerfile"), "COPY version /version\nVOLUME /data\n");
    await version(1);
    await accelerated(dataDir);
    await cli.berth(
      "launch",
      "db:latest",
      "--name",
      "db",
      "-m",
      "128M",
      "-p",
      "80",
      "-e",
      "A=b",
      "--restart",
      "always",
    );
  });
  afterAll(async () => {
    if (!berthd) return;
    for (const { name } of await cli.json<Instance[]>("ls")) await cli.berth("rm", "--force", "--snapshots", name);
    await auditQemu(berthd.client, dataDir, berthd.pid);
    await berthd.stop();
  });

  const sh = (script: string) => cli.berth("exec", "db", "--", "/bin/sh", "-c", script);
  const show = () => cli.json<Instance>("show", "db");
  const get = async (path: string) => {
    const [port] = (await show()).status.ports;
    const response = await fetch(`http://127.0.0.1:${port?.hostPort}${path}`);
    return [response.status, await response.text()];
  };

  it("keeps a database's volume, and nothing else that was written", async () => {
    const before = await show();
    expect(await get("/version")).toEqual([200, "1\n"]);
    await sh("echo row > /data/table; echo log > /log; /bin/busybox sync");
    await version(2);
    const { code, stderr } = await cli.run(["rebuild", "db"]);
    expect([code, stderr]).toEqual([0, expect.stringContaining("is kept as db-before-rebuild-")]);
    expect(await get("/version")).toEqual([200, "2\n"]);
    expect(await get("/data/table")).toEqual([200, "row\n"]);
    expect((await get("/log"))[0]).toBe(404);
    const after = await show();
    expect(after).toMatchObject({ id: before.id, name: "db", spec: before.spec, status: { ready: true } });
    expect(after.status.ports).toEqual(before.status.ports);
    expect(await sh("echo $A")).toBe("b\n");
  });

  it("is as before once what was kept is restored", async () => {
    await sh("echo newer > /data/table; /bin/busybox sync");
    const [kept] = await cli.json<{ name: string }[]>("snapshot", "ls");
    await cli.berth("snapshot", "restore", kept?.name ?? "", "--force", "--discard", "--yes");
    expect([await get("/version"), await get("/data/table"), await get("/log")]).toEqual([
      [200, "1\n"],
      [200, "row\n"],
      [200, "log\n"],
    ]);
  });

  it("runs on when its image cannot be made", async () => {
    const { startedAt } = (await show()).status;
    const { code } = await cli.run(["rebuild", "db", "--image", "127.0.0.1:1/none"]);
    expect(code).not.toBe(0);
    expect((await show()).status).toMatchObject({ phase: "running", ready: true, startedAt });
    expect(await get("/data/table")).toEqual([200, "row\n"]);
  });
});
