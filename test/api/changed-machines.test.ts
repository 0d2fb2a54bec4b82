import { join } from "node:path";
import type { Instance } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { eventually } from "../support/eventually.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { freePort } from "../support/ports.ts";
import { berthOf, type RunBerth } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe.each(whoRunsBerthd)("a machine of a berthd as $who", ({ ordinaryUser }) => {
  let berthd: Berthd;
  let cli: RunBerth;

  beforeAll(async () => {
    const scratch = await scratchDirectory("set");
    berthd = await startBerthd({ dataDir: join(scratch, "d"), ordinaryUser });
    cli = berthOf(berthd);
    await buildBusybox(berthd.client, scratch);
    await cli.berth("launch", busyboxImage, "--name", "web", "-m", "128M", "-p", "80", "-e", "MODE=slow");
  });
  afterAll(async () => {
    if (!berthd) return;
    for (const { name } of await cli.json<Instance[]>("ls")) await cli.berth("rm", "--force", name);
    await berthd.stop();
  });

  const inside = (...words: readonly string[]) => cli.berth("exec", "web", "--", "/bin/busybox", ...words);
  const show = (instance = "web") => berthd.client.getInstance({ params: { instance } });
  const memoryMib = async () => Number(/MemTotal: +(\d+) kB/.exec(await inside("cat", "/proc/meminfo"))?.[1]) / 1024;

  it("CPUs, memory and environment are the machine's from its next start on", async () => {
    const said = await cli.berth("set", "web", "--cpus", "2", "-m", "256M", "-e", "MODE=fast", "-l", "team=a");
    expect(said.split("\n").map((line) => line.replace(/ +/, " "))).toEqual([
      "labels: now",
      "cpus: at the next start",
      "memoryMib: at the next start",
      "env: at the next start",
      "",
    ]);
    expect((await show()).status.pending).toEqual(["cpus", "memoryMib", "env"]);
    expect(await inside("nproc")).toBe("1\n");
    expect(await memoryMib()).toBeLessThan(128);
    await cli.berth("set", "web", "--stop-timeout", "1", "--restart-now");
    expect((await show()).status.pending).toEqual(["cpus", "memoryMib", "env"]);
    await cli.berth("set", "web", "-e", "MORE=yes", "--restart-now");
    expect((await show()).status).toMatchObject({ phase: "running", ready: true, pending: [] });
    expect(await inside("nproc")).toBe("2\n");
    expect(await memoryMib()).toBeGreaterThan(128);
    expect((await inside("env")).split("\n")).toEqual(expect.arrayContaining(["MODE=fast", "MORE=yes"]));
  });

  it("a program that crashes is started again, and given up after as many times as allowed", async () => {
    const program = ["/bin/sh", "-c", "echo crashed; exit 3"];
    // Whether it is seen to have run before it ended is a matter of chance.
    const options = ["--name", "crash", "-m", "128M", "--restart", "on-failure:1"];
    await cli.run(["launch", busyboxImage, ...options, "--", ...program]);
    const givenUp = {
      phase: expect.stringMatching(/stopped|failed/),
      exitCode: 3,
      restarts: { count: 1, nextAt: null },
    };
    await eventually(async () => expect((await show("crash")).status).toMatchObject(givenUp));
    expect(await cli.berth("logs", "crash")).toBe("crashed\ncrashed\n");
  });

  it("other ports answer at once where they can, else from the next start on, and those taken away no more", async () => {
    const { startedAt, ports } = (await show()).status;
    const hostPort = await freePort();
    const said = await cli.berth("set", "web", "--unpublish", "80", "-p", `${hostPort}:80`);
    expect(said).toMatch(ordinaryUser ? /^ports: +at the next start\n$/ : /^ports: +now\n$/);
    if (ordinaryUser) await cli.berth("restart", "web");
    const answers = (port = 0) => fetch(`http://127.0.0.1:${port}/bin/busybox`, { method: "HEAD" });
    expect((await answers(hostPort)).status).toBe(200);
    await expect(answers(ports[0]?.hostPort)).rejects.toThrow();
    const { status } = await show();
    expect(status).toMatchObject({ phase: "running", ready: true, pending: [] });
    if (!ordinaryUser) expect(status.startedAt).toBe(startedAt);
  });

  it.runIf(!ordinaryUser)("it is ready when its process listens on what is published now", async () => {
    const other = await freePort();
    await cli.berth("set", "web", "-p", `${other}:81`);
    const waits = { ready: false, reason: expect.stringContaining("nothing listens on port 81") };
    await eventually(async () => expect((await show()).status).toMatchObject(waits));
    await cli.berth("set", "web", "--unpublish", "81");
    await eventually(async () => expect((await show()).status).toMatchObject({ ready: true, pending: [] }));
  });

  it("a disk grows while it runs, and the file system on it", async () => {
    const { startedAt } = (await show()).status;
    const said = await cli.berth("set", "web", "--disk", "3G");
    expect(said).toMatch(/^diskMib: +now\n$/);
    const [, mebibytes] = /(\d+)\s+\d+\s+\d+\s+\d+%\s+\/\n/.exec(await inside("df", "-m", "/")) ?? [];
    expect(Number(mebibytes)).toBeGreaterThan(2500);
    expect((await show()).status).toMatchObject({ startedAt, pending: [] });
    const { code, stderr } = await cli.run(["set", "web", "--disk", "2G"]);
    expect([code === 0, stderr]).toEqual([false, expect.stringContaining("never made smaller")]);
  });
});
