import { execFileSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Event, Image, Instance, InstanceChange, Node, Operation } from "@berth/api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeImages } from "../images/made-images.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { berthOf, type RunBerth } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe.each(whoRunsBerthd)("berthd as $who", ({ ordinaryUser }) => {
  let folder: string;
  let image: string;
  let berthd: Berthd;
  let cli: RunBerth;

  beforeAll(async () => {
    folder = await scratchDirectory("cli");
    image = makeImages(join(folder, "made")).musl;
    berthd = await startBerthd({ dataDir: join(folder, "d"), ordinaryUser });
    cli = berthOf(berthd);
    expect(await cli.berth("image", "build", "-t", "probe:1", image)).toMatch(/^img-[0-9a-f]{17}\n$/);
    const options = ["--name", "web", "-p", "8080", "-e", "PROBE_PORT=8080", "-l", "team=a", "--memory", "192M"];
    const { code, stdout, stderr } = await cli.run(["launch", "probe:1", ...options]);
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: "web\n" });
  });
  afterAll(async () => {
    if (!berthd) return;
    for (const { name } of await cli.json<Instance[]>("ls")) await cli.berth("rm", "--force", name);
    await berthd.stop();
  });

  test("ls, ls -l and show tell of it, as text and as JSON", async () => {
    const [head, row] = (await cli.berth("ls")).split("\n");
    expect(head).toMatch(/^NAME +IMAGE +PHASE/);
    expect(row).toMatch(/^web .*running/);
    const [web] = await cli.json<Instance[]>("ls", "-l", "team=a");
    expect(web).toMatchObject({ name: "web", labels: { team: "a" }, status: { phase: "running", ready: true } });
    expect(await cli.json<Instance[]>("ls", "-l", "team=b")).toEqual([]);
    expect(await cli.berth("show", "web")).toMatch(/web[\s\S]*running/);
    expect(await cli.json<Instance>("show", web?.id ?? "")).toEqual(web);
  });

  test("exec has streams, input, exit code, user, folder and environment", async () => {
    const exec = (...words: readonly string[]) => cli.run(["exec", ...words]);
    expect(await exec("web", "--", "sh", "-c", "echo out; echo err >&2; exit 9")).toEqual({
      code: 9,
      stdout: "out\n",
      stderr: "err\n",
    });
    const input = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251));
    const counted = await cli.run(["exec", "-i", "web", "--", "sha256sum"], { input });
    expect(counted.stdout).toBe(execFileSync("sha256sum", { input, encoding: "utf8" }));
    expect((await exec("web", "cat")).stdout).toBe("");
    const asked = ["-u", "root:video", "-w", "/etc", "-e", "ASKED=yes", "web", "--"];
    expect((await exec(...asked, "sh", "-c", 'id -u; id -g; pwd; echo "$ASKED $FROM_IMAGE"')).stdout).toBe(
      "0\n44\n/etc\nyes an image\n",
    );
    expect((await exec("web", "--", "sh", "-c", "id -u; id -G; pwd; test -t 0")).stdout).toBe(
      "1000\n1001 29 44\n/srv/app/data\n",
    );
    expect((await exec("web", "--", "/nowhere")).code).toBe(127);
    expect((await exec("web", "--", "/etc/passwd")).code).toBe(126);
    expect((await exec("nobody", "--", "true")).code).toBe(125);
    expect(await cli.json("exec", "web", "--", "sh", "-c", "echo out; echo err >&2")).toEqual({
      exitCode: 0,
      stdout: "out\n",
      stderr: "err\n",
    });
  });

  test("exec -it and shell give a terminal", async () => {
    const typed = await cli.run(
      ["exec", "-it", "web", "--", "sh", "-c", "tty; stty size; read line; echo got $line; exit 3"],
      {
        terminal: true,
        input: "hello\n",
      },
    );
    expect(typed.code).toBe(3);
    expect(typed.stdout).toMatch(/\/dev\/pts\/\d+\r+\n\d+ \d+\r+\n[\s\S]*got hello\r+\n/);
    const shell = await cli.run(["shell", "-u", "root", "web"], {
      terminal: true,
      input: "echo $((6 * 7)) $(id -u)\nexit 5\n",
    });
    expect(shell.stdout).toMatch(/^42 0\r+$/m);
    expect(shell.code).toBe(5);
    const refused = await cli.run(["shell", "web"]);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("needs a terminal") });
  });

  test("cp takes files, folders and archives both ways", async () => {
    const sent = join(folder, "sent");
    mkdirSync(join(sent, "deep/er"), { recursive: true });
    writeFileSync(join(sent, "deep/er/tool"), "#!/bin/sh\necho tool\n");
    chmodSync(join(sent, "deep/er/tool"), 0o750);
    utimesSync(join(sent, "deep/er/tool"), 1_600_000_000, 1_600_000_000);
    symlinkSync("deep/er/tool", join(sent, "link"));
    writeFileSync(join(sent, "one"), "one");
    await cli.berth("cp", sent, "web:/var/probe");
    const inside = async (...command: readonly string[]) =>
      (await cli.berth("exec", "-u", "root", "web", "--", ...command)).trim();
    expect(await inside("/var/probe/sent/link")).toBe("tool");
    expect(await inside("stat", "-c", "%a %u:%g %Y", "/var/probe/sent/deep/er/tool")).toBe("750 0:0 1600000000");
    await cli.berth("cp", join(sent, "one"), "web:/var/probe/renamed");
    expect(await inside("cat", "/var/probe/renamed")).toBe("one");

    const got = join(folder, "got");
    await cli.berth("cp", "web:/var/probe/sent", got);
    expect(readdirSync(got).sort()).toEqual(["deep", "link", "one"]);
    expect(readlinkSync(join(got, "link"))).toBe("deep/er/tool");
    expect(statSync(join(got, "deep/er/tool"))).toMatchObject({ mode: 0o100750, mtimeMs: 1_600_000_000_000 });
    await cli.berth("cp", "web:/etc/passwd", got);
    expect(readFileSync(join(got, "passwd"), "utf8")).toContain("app:x:1000");
    const archive = execFileSync("tar", ["--create", "--file=-", "--directory", sent, "one"]);
    expect(await cli.run(["cp", "-", "web:/srv"], { input: archive })).toMatchObject({ code: 0 });
    expect(await inside("cat", "/srv/one")).toBe("one");
    writeFileSync(join(folder, "out.tar"), await cli.berth("cp", "web:/srv/one", "-"));
    expect(execFileSync("tar", ["--list", "--file", join(folder, "out.tar")], { encoding: "utf8" })).toBe("one\n");
    const missing = await cli.run(["cp", "web:/nowhere", folder]);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining("/nowhere") });
  });

  test("logs has all there is, its end, times; -f ends when the instance stops, which stop, start and restart tell", async () => {
    expect(await cli.berth("logs", "web")).toContain("argument from entrypoint\n");
    expect((await cli.berth("logs", "-n", "1", "web")).trimEnd().split("\n")).toEqual(["terminal no"]);
    expect(await cli.berth("logs", "-n", "1", "-t", "web")).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z terminal no\n$/);
    const [, second] = (await cli.berth("logs", "--json", "web")).split("\n");
    expect(JSON.parse(second ?? "")).toEqual({ at: expect.stringMatching(/^\d{4}-/), line: "argument from cmd" });

    const following = cli.start(["logs", "-f", "web"]);
    const followed = Promise.all([text(following.stdout), once(following, "close")]);
    // It follows once it has shown what there was.
    await once(following.stdout, "readable");
    expect(await cli.berth("stop", "web")).toBe("web\n");
    const [said, [code]] = await followed;
    expect(said).toMatch(/terminal no\n[\s\S]*signal 10\n$/);
    expect(code).toBe(0);
    expect((await cli.json<Instance>("show", "web")).status).toMatchObject({ phase: "stopped", exitCode: 74 });
    const refused = await cli.run(["exec", "web", "--", "true"]);
    expect(refused).toMatchObject({ code: 125, stderr: expect.stringContaining("web is stopped") });

    const [started] = await cli.json<InstanceChange[]>("start", "web");
    expect(started).toMatchObject({ instance: { status: { ready: true } }, operation: { status: "succeeded" } });
    expect(await cli.berth("restart", "web")).toBe("web\n");
    expect((await cli.json<Instance>("show", "web")).spec.restartGeneration).toBe(1);
    expect((await cli.berth("logs", "web")).match(/^argument from cmd$/gm)).toHaveLength(3);
  });

  test("launch --detach returns at once, op tells of what goes on, and it can be cancelled", async () => {
    const detached = await cli.json<Instance>("launch", "probe:1", "--name", "second", "-d", "--memory", "128M");
    const operation = detached.operationId ?? "";
    const cancelled = await cli.run(["op", "cancel", operation]);
    expect(cancelled.stdout, cancelled.stderr).toBe(`${operation}\n`);
    expect(await cli.run(["op", "wait", operation])).toMatchObject({ code: 1, stdout: "cancelled\n" });
    expect((await cli.json<Instance[]>("ls")).map(({ name }) => name)).toEqual(["web"]);
    const [newest] = await cli.json<Operation[]>("op", "ls", "-n", "1");
    expect(newest).toMatchObject({ id: operation, type: "instance.create", status: "cancelled" });
    expect(await cli.berth("op", "ls")).toMatch(/^ID +TYPE +TARGET +STATUS/);
    expect(await cli.berth("op", "show", operation)).toMatch(/instance\.create[\s\S]*cancelled/);
    const [built] = await cli.json<Image[]>("image", "ls");
    const lines = await cli.json<string[]>("op", "log", built?.operationId ?? "");
    expect(lines.join("\n")).toContain("FROM scratch");
  });

  test("image build, ls, show and rm; one in use stays; a pull that cannot be says why", async () => {
    const second = (await cli.berth("image", "build", "-t", "probe:2", image)).trim();
    expect(await cli.berth("image", "ls")).toMatch(/^REFERENCE[\s\S]*probe:1[\s\S]*/);
    expect((await cli.json<Image[]>("image", "ls")).length).toBeGreaterThanOrEqual(1);
    expect(await cli.json<Image>("image", "show", "probe:2")).toMatchObject({ id: second, state: "ready" });
    const used = await cli.run(["image", "rm", "probe:1"]);
    expect(used.code).toBe(1);
    expect(used.stderr).toContain("web");
    const refused = await cli.run(["image", "pull", "127.0.0.1:1/nothing"]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("BERTH_ALLOW_HOSTS") });
  });

  test("events and doctor", async () => {
    const events = (await cli.berth("events", "--list", "--json"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Event);
    expect(events.map(({ seq }) => seq)).toEqual(events.map(({ seq }) => seq).sort((a, b) => a - b));
    expect(events.map(({ type }) => type)).toEqual(
      expect.arrayContaining(["image.ready", "instance.created", "instance.stopped", "operation.succeeded"]),
    );
    const following = cli.start(["events", "--after", "0", "--type", "instance.created"]);
    const [line] = (await once(following.stdout.setEncoding("utf8"), "data")) as [string];
    expect(line).toMatch(/instance\.created {2}web/);
    following.kill("SIGINT");
    expect((await once(following, "close"))[0]).toBe(0);
    const doctor = await cli.run(["doctor", "--json"]);
    const { ok, nodes } = JSON.parse(doctor.stdout) as { ok: boolean; nodes: Node[] };
    expect(doctor.code).toBe(ok ? 0 : 1);
    expect(nodes).toHaveLength(1);
    expect(await cli.berth("doctor")).toMatch(/tcg|kvm/i);
  });

  test("rm asks for --force while it runs; down --all stops everything and berthd goes on", async () => {
    expect(await cli.run(["rm", "web"])).toMatchObject({ code: 1, stderr: expect.stringContaining("--force") });
    expect(await cli.run(["down", "--all"])).toMatchObject({ code: 2, stderr: expect.stringContaining("--yes") });
    expect(await cli.berth("down", "--all", "--yes")).toBe("web\n");
    expect((await cli.json<Instance>("show", "web")).status.phase).toBe("stopped");
    expect(await cli.berth("rm", "web")).toBe("web\n");
    const images = (await cli.json<Image[]>("image", "ls")).map(({ id }) => id);
    const removed = await cli.json<{ operation: Operation }[]>("image", "rm", ...images);
    expect(removed.map(({ operation }) => operation.status)).toEqual(removed.map(() => "succeeded"));
    expect(await cli.json("ls")).toEqual([]);
    expect(await cli.json("image", "ls")).toEqual([]);
  });
});
