import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Image } from "@berth/api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { eventually } from "../support/eventually.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { berthOf, type RunBerth } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { type MadeImages, makeImages } from "./made-images.ts";

describe.each(whoRunsBerthd)("berthd as $who", ({ ordinaryUser }) => {
  let folder: string;
  let made: MadeImages;
  let berthd: Berthd;
  let cli: RunBerth;

  beforeAll(async () => {
    folder = await scratchDirectory("img");
    made = makeImages(join(folder, "made"));
    berthd = await startBerthd({ dataDir: join(folder, "d"), ordinaryUser });
    cli = berthOf(berthd);
  });
  afterAll(async () => {
    if (!berthd) return;
    const left = (await berthd.client.listInstances()).items.map(({ name }) => name);
    if (left.length > 0) await cli.berth("rm", "--force", ...left);
    await berthd.stop();
  });

  /** Its instance, and the lines its process wrote so far. */
  const look = async (name: string) => {
    const params = { instance: name };
    const [instance, log] = await Promise.all([
      berthd.client.getInstance({ params }),
      berthd.client.instanceLogs({ params }),
    ]);
    return { ...instance, said: (await new Response(log).text()).split("\n") };
  };

  /** The same of one that publishes no port and so is ready before it has said all it says at first. */
  const lookOnceSaid = (name: string) =>
    eventually(async () => {
      const seen = await look(name);
      expect(seen.said).toContainEqual(expect.stringMatching(/^terminal /));
      return seen;
    });

  describe("busybox with a program linked with musl", () => {
    beforeAll(async () => {
      await cli.berth("image", "build", "-t", "musl", made.musl);
      writeFileSync(join(folder, "env"), "# a comment\nFROM_FILE=a file\nOVERRIDDEN=by file\nFROM_CALLER\n");
      const { code, stdout, stderr } = await cli.run(
        [
          ...["launch", "musl", "--name", "probe", "-p", "8080", "--cpus", "2", "--memory", "256M", "--disk", "3G"],
          ...["-l", "team=a", "-l", "tier=web", "--env-file", join(folder, "env")],
          ...["-e", "OVERRIDDEN=by option", "-e", "PROBE_PORT=8080", "--", "a command", "--with", "$HOME"],
        ],
        { env: { FROM_CALLER: "the caller" } },
      );
      expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: "probe\n" });
    });

    test("is shown with what its Dockerfile says", async () => {
      const { startConfig } = await cli.json<Image>("image", "show", "musl");
      expect(startConfig).toMatchObject({
        entrypoint: ["/bin/probe", "from entrypoint"],
        cmd: ["from cmd"],
        env: expect.arrayContaining(["FROM_IMAGE=an image", "OVERRIDDEN=no"]),
        user: "app",
        workingDir: "/srv/app/data",
        exposedPorts: ["53/udp", "8080/tcp"],
        stopSignal: "SIGUSR1",
        labels: { team: "probe" },
      });
    });

    test("gets its entrypoint, the command given, its environment, user, groups and folder", async () => {
      const { said } = await look("probe");
      expect(said.filter((line) => line.startsWith("argument "))).toEqual([
        "argument from entrypoint",
        "argument a command",
        "argument --with",
        "argument $HOME",
      ]);
      expect(said).toEqual(
        expect.arrayContaining([
          "env FROM_IMAGE=an image",
          "env FROM_FILE=a file",
          "env FROM_CALLER=the caller",
          "env OVERRIDDEN=by option",
          "env HOME=/srv/app",
          "env HOSTNAME=probe",
          "folder /srv/app/data",
          "ids 1000 1001",
          "terminal no",
        ]),
      );
      const groups = said
        .find((line) => line.startsWith("groups"))
        ?.split(" ")
        .slice(1)
        .map(Number);
      expect(groups?.sort((a, b) => a - b)).toEqual([29, 44, 1001]);
    });

    test("has the CPUs, memory and disk asked for, seen from inside", async () => {
      const inside = async (...command: readonly string[]) =>
        (await cli.berth("exec", "probe", "--", ...command)).trim();
      expect(await inside("nproc")).toBe("2");
      const memory = Number(/MemTotal: +(\d+) kB/.exec(await inside("cat", "/proc/meminfo"))?.[1]) / 1024;
      expect(memory).toBeGreaterThan(200);
      expect(memory).toBeLessThanOrEqual(256);
      const size = Number((await inside("df", "-m", "/")).split("\n").at(-1)?.split(/ +/)[1]);
      expect(size).toBeGreaterThan(2800);
      expect(size).toBeLessThanOrEqual(3072);
    });

    test("answers on its published port, and only ports asked for are published", async () => {
      const { status, labels } = await look("probe");
      expect(labels).toEqual({ team: "a", tier: "web" });
      expect(status.ports).toEqual([
        { hostAddress: "127.0.0.1", hostPort: expect.any(Number), guestPort: 8080, protocol: "tcp" },
      ]);
      const answer = await fetch(`http://127.0.0.1:${status.ports[0]?.hostPort}/`);
      expect(await answer.text()).toBe("probe\n");
    });

    test("is stopped by its stop signal, whose trace is on its console and its disk, and comes back", async () => {
      await cli.berth("stop", "probe");
      const stopped = await look("probe");
      expect(stopped.said).toContain("signal 10");
      expect(stopped.status).toMatchObject({ phase: "stopped", exitCode: 74 });
      await cli.berth("start", "probe");
      expect(await cli.berth("exec", "probe", "--", "cat", "/var/probe/signal")).toBe("10\n");
      const { status } = await look("probe");
      expect(await (await fetch(`http://127.0.0.1:${status.ports[0]?.hostPort}/`)).text()).toBe("probe\n");
      await cli.berth("rm", "--force", "probe");
    });

    test("has its own command when none is given, and its end and exit code are told", async () => {
      const { code, stderr } = await cli.run(["launch", "musl", "--name", "ends", "-p", "8080", "-e", "PROBE_EXIT=7"]);
      expect(code).toBe(1);
      expect(stderr).toContain("Its process ended with exit code 7 before it was ready.");
      const { said, status } = await look("ends");
      expect(said.filter((line) => line.startsWith("argument "))).toEqual([
        "argument from entrypoint",
        "argument from cmd",
      ]);
      expect(status).toMatchObject({ phase: "failed", exitCode: 7 });
    });

    test("runs another entrypoint instead, without the image's CMD, and with a terminal when asked", async () => {
      await cli.berth("launch", "musl", "--name", "other", "-t", "--entrypoint", "/bin/probe", "--memory", "128M");
      const { said } = await lookOnceSaid("other");
      const lines = said.map((line) => line.trimEnd());
      expect(lines.filter((line) => line.startsWith("argument "))).toEqual([]);
      expect(lines).toContain("terminal yes");
      expect(lines).toContain("env TERM=xterm");
    });
  });

  test("a program linked with glibc, without a shell, runs as numbers in a folder made for it", async () => {
    await cli.berth("image", "build", "-t", "glibc", made.glibc);
    await cli.berth("launch", "glibc", "--name", "glibc", "--memory", "128M", "--", "given");
    const { said } = await lookOnceSaid("glibc");
    expect(said).toEqual(
      expect.arrayContaining([
        "argument given",
        "folder /made/by/workdir",
        "ids 1234 2345",
        "groups 2345",
        "env HOME=/",
      ]),
    );
    await cli.berth("stop", "glibc");
    expect(await look("glibc")).toMatchObject({ status: { exitCode: 64 + 12 } });
  });

  test("a static program alone in its image runs as root and ends by SIGTERM", async () => {
    await cli.berth(
      "launch",
      made.static,
      "--name",
      "static",
      "--memory",
      "128M",
      "-p",
      "9000",
      "-e",
      "PROBE_PORT=9000",
    );
    const { said, status } = await look("static");
    expect(said).toEqual(expect.arrayContaining(["argument from cmd", "folder /", "ids 0 0", "env HOME=/"]));
    expect(await (await fetch(`http://127.0.0.1:${status.ports[0]?.hostPort}/`)).text()).toBe("probe\n");
    await cli.berth("stop", "static");
    expect(await look("static")).toMatchObject({ status: { exitCode: 64 + 15 } });
  });
});
