import type { Instance, RouteName } from "@berth/api";
import { afterEach, describe, expect, test } from "vitest";
import {
  Events,
  FakeBerthd,
  frame,
  type Handler,
  ids,
  image,
  instance,
  node,
  operation,
  pool,
  Refusal,
  type SocketHandler,
  template,
} from "./testing/fake-berthd.ts";
import { type RunOptions, runBerth } from "./testing/run-berth.ts";

let berthd: FakeBerthd | undefined;
afterEach(async () => {
  await berthd?.stop();
  berthd = undefined;
});

/** Runs a command line, split at blanks, against a berthd with these answers. */
async function berth(
  line: string,
  handlers: Partial<Record<RouteName, Handler>> = {},
  options: RunOptions & { socket?: SocketHandler } = {},
) {
  berthd = await FakeBerthd.start(handlers, options.socket);
  return runBerth(line.split(" "), { url: berthd.url, ...options });
}

/** A berthd whose only instance has that name. */
const oneNamed =
  (name: string): Handler =>
  ({ params }) => {
    if (params.instance !== name && params.instance !== ids.instance)
      throw new Refusal(404, "not_found", `There is no instance ${params.instance}.`);
    return instance;
  };

describe("snapshot", () => {
  test("create waits and prints the name", async () => {
    const ran = await berth("snapshot create web --name before");
    expect(ran).toMatchObject({ code: 0, stdout: "before\n" });
    expect(berthd?.callsOf("createSnapshot")[0]?.json).toEqual({ instance: "web", name: "before" });
  });

  test("ls and show tell sizes and verdicts", async () => {
    const { stdout } = await berth("snapshot ls --instance web");
    expect(stdout).toMatch(
      /^NAME +INSTANCE +KIND +MADE +STATE +AGE +OWN +SHARED +VERIFIED\nbefore +web +disk +by hand +ready +\d+d +0 B +1[.]2 MB +sound\n$/,
    );
    expect(berthd?.callsOf("listSnapshots")[0]?.query.get("instance")).toBe("web");
    await berthd?.stop();
    expect((await berth("snapshot show before")).stdout).toMatch(
      /Instance: +web[\s\S]*Disks: +root 1 GiB[\s\S]*Verified: +sound/,
    );
  });

  test("promote asks for the image and prints its id", async () => {
    expect(await berth("snapshot promote before web:golden")).toMatchObject({ code: 0, stdout: `${ids.image}\n` });
    const [call] = berthd?.callsOf("promoteSnapshot") ?? [];
    expect([call?.params, call?.json]).toEqual([{ snapshot: "before" }, { reference: "web:golden" }]);
    await berthd?.stop();
    const instance = { id: ids.instance, name: "web" };
    const source = { type: "snapshot" as const, snapshot: { id: ids.snapshot, name: "before" }, instance };
    const { stdout } = await berth(`image show ${ids.image}`, { getImage: () => ({ ...image, source }) });
    expect(stdout).toMatch(/^From: +snapshot before of web$/m);
  });

  test("restore tells what it keeps, and asks before it stops or discards anything", async () => {
    const stopped = { getInstance: () => ({ ...instance, status: { ...instance.status, phase: "stopped" } }) };
    const ran = await berth("snapshot restore before", stopped);
    expect(ran).toMatchObject({ code: 0, stdout: "web\n" });
    expect(ran.stderr).toContain("What was on its disks before is kept as web-before-restore.");
    expect(berthd?.callsOf("restoreSnapshot")[0]?.json).toEqual({ instance: ids.instance, force: false });
    for (const line of ["snapshot restore before", "snapshot restore before --discard --force"]) {
      await berthd?.stop();
      const asked = await berth(line);
      expect(asked).toMatchObject({ code: 2, stdout: "" });
      expect(asked.stderr).toContain("Nobody can be asked here.");
      expect(berthd?.callsOf("restoreSnapshot")).toEqual([]);
    }
    await berthd?.stop();
    await berth("snapshot restore before --instance other --force --discard --yes");
    expect(berthd?.callsOf("restoreSnapshot")[0]?.json).toEqual({ instance: ids.instance, force: true, discard: true });
  });

  test("rm and verify take several; rm of an instance says how many stay", async () => {
    expect((await berth("snapshot verify before before")).stdout).toBe("before\n");
    await berthd?.stop();
    expect((await berth("snapshot rm before")).stdout).toBe("before\n");
    await berthd?.stop();
    expect((await berth("rm web")).stderr).toContain("1 snapshot of web stays.");
    await berthd?.stop();
    expect((await berth("rm --snapshots web")).stderr).not.toContain("stays");
    expect(berthd?.callsOf("deleteInstance")[0]?.query.get("snapshots")).toBe("true");
  });
});

describe("launch", () => {
  test("asks for what docker run would, waits and prints only the name", async () => {
    const ran = await berth(
      "launch nginx --name web -p 8080:80 -p[::1]:53:53/udp -e A=b -e HERE --cpus 2 -m 1.5G --disk 4G -l team=a -t --restart always -- nginx -g x",
      {},
      { env: { HERE: "there" } },
    );
    expect(ran).toEqual({ code: 0, stdout: "web\n", stderr: "create-disks\ncreate-disks: done in 1.5 s\n" });
    expect(berthd?.callsOf("createInstance")[0]?.json).toEqual({
      image: "nginx",
      name: "web",
      ports: [
        { hostPort: 8080, guestPort: 80 },
        { hostAddress: "::1", hostPort: 53, guestPort: 53, protocol: "udp" },
      ],
      env: { A: "b", HERE: "there" },
      cpus: 2,
      memoryMib: 1536,
      diskMib: 4096,
      labels: { team: "a" },
      tty: true,
      restart: "always",
      command: ["nginx", "-g", "x"],
    });
    expect(berthd?.callsOf("createInstance")[0]?.headers["idempotency-key"]).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("what follows the image is its command, and another entrypoint leaves CMD out", async () => {
    await berth("launch alpine ls -l");
    expect(berthd?.callsOf("createInstance")[0]?.json).toMatchObject({ command: ["ls", "-l"] });
    await berthd?.stop();
    await berth("launch --entrypoint /bin/sh alpine");
    expect(berthd?.callsOf("createInstance")[0]?.json).toMatchObject({ entrypoint: ["/bin/sh"], command: [] });
  });

  test("from a snapshot asks only for what is given", async () => {
    const ran = await berth("launch --snapshot before --name web2 -e A=b -p 80 -- serve --fast");
    expect(ran).toMatchObject({ code: 0, stdout: "web\n" });
    const [call] = berthd?.callsOf("launchSnapshot") ?? [];
    expect(call?.params.snapshot).toBe("before");
    expect(call?.json).toEqual({
      name: "web2",
      env: { A: "b" },
      labels: {},
      ports: [{ guestPort: 80 }],
      command: ["serve", "--fast"],
    });
  });

  test("--detach returns at once, --json prints the instance", async () => {
    const ran = await berth("launch nginx --detach --json");
    expect(JSON.parse(ran.stdout)).toEqual(instance);
    expect(berthd?.callsOf("watchOperation")).toEqual([]);
  });

  test("builds a folder or Git URL first", async () => {
    await berth("launch https://example.com/shop.git#v1:web --name new", { getInstance: oneNamed("web") });
    expect(berthd?.callsOf("buildImage")[0]?.json).toEqual({
      reference: "localhost/web:latest",
      source: { type: "git", url: "https://example.com/shop.git", ref: "v1", subdirectory: "web" },
    });
    expect(berthd?.callsOf("createInstance")[0]?.json).toMatchObject({ image: ids.image });
  });

  test.each([
    ["--name web", "There is already an instance named web."],
    ["--name Web", "name: must be"],
    ["--memory 1M", "memoryMib"],
  ])("builds nothing for what cannot be launched: %s", async (option, words) => {
    const ran = await berth(`launch https://example.com/shop.git ${option}`, { getInstance: oneNamed("web") });
    expect(ran.stderr).toContain(words);
    expect(ran.code).not.toBe(0);
    expect(berthd?.callsOf("buildImage")).toEqual([]);
  });

  test("shows a pull that comes first", async () => {
    const pull = { ...operation, type: "image.pull", steps: [{ ...operation.steps[0], name: "fetch-layers" }] };
    let watched = 0;
    const ran = await berth("launch nginx", {
      getImage: () => ({ ...image, state: "building" }),
      watchOperation: () => new Events([watched++ === 0 ? pull : operation]),
    });
    expect(ran.stderr.split("\n")[0]).toBe("fetch-layers");
    expect(ran.code).toBe(0);
  });

  test("tells a failed operation with its hint", async () => {
    const error = {
      type: "",
      title: "The host port is in use",
      status: 409,
      code: "port_taken",
      detail: "Port 8080 \u001b[2Jis taken.",
      hint: "Publish another.",
    };
    const ran = await berth("launch nginx", {
      watchOperation: () => new Events([{ ...operation, steps: [], status: "failed", error }]),
    });
    expect(ran).toEqual({
      code: 1,
      stdout: "",
      stderr: "berth: The host port is in use\nPort 8080 is taken.\nHint: Publish another.\n",
    });
    await berthd?.stop();
    const errors = [
      { path: "body.name", message: "is long" },
      { path: "body.cpus", message: "are many" },
    ];
    const wrong = { ...error, detail: "body.name: is long", errors };
    const { stderr } = await berth("launch nginx", {
      watchOperation: () => new Events([{ ...operation, steps: [], status: "failed", error: wrong }]),
    });
    expect(stderr.match(/is long/g)).toHaveLength(1);
    expect(stderr).toContain("  body.cpus: are many\n");
  });

  test.each([
    ["launch", "IMAGE is missing"],
    ["launch --snapshot before --location here", "runs where the snapshot is"],
    ["launch nginx --keep 24h", "--keep needs --snapshots"],
    ["set web --keep 24x", "24h,7d,4w"],
    ["set web --keep 24h,7h", "twice how many hours"],
    ["set web --snapshots 0", "15m, 1h or 1d"],
    ["launch nginx --memory 512", "512 bytes"],
    ["launch nginx -p 99999", "not a port"],
    ["launch nginx -p x", "must look like"],
    ["launch nginx --cpus 1.5", "whole number"],
    ["launch ./nowhere", "is not a folder"],
    ["launch nginx --env-file /nowhere", "cannot be read"],
    ["launch nginx --name", "needs a value"],
  ])("%s is a usage error", async (line, words) => {
    const ran = await berth(line);
    expect(ran.stderr).toContain(words);
    expect(ran.code).toBe(2);
  });
});

describe("Ctrl-C", () => {
  const running = { ...operation, status: "running" as const, steps: [] };

  test("where nobody can be asked: leaves it and says how to go on", async () => {
    const ran = await berth(
      "launch nginx",
      { watchOperation: () => new Events([running]) },
      { during: pressOnceWatched },
    );
    expect(ran.code).toBe(130);
    expect(ran.stderr).toContain(`berth op wait ${ids.operation}`);
    expect(berthd?.callsOf("cancelOperation")).toEqual([]);
  });

  test.each(["c", "yes"])("on a terminal: asks, and cancels when told so: %s", async (answer) => {
    let cancelled = false;
    const ran = await berth(
      "launch nginx",
      {
        watchOperation: () => new Events([cancelled ? { ...running, status: "cancelled" } : running]),
        cancelOperation: () => {
          cancelled = true;
          return { ...running, status: "cancelling" };
        },
      },
      {
        terminal: true,
        during: (keys) => {
          pressOnceWatched(keys);
          void until(() => keys.stderr().includes("[c]")).then(() => keys.type(`${answer}\n`));
        },
      },
    );
    expect(cancelled).toBe(true);
    expect(ran.code).toBe(1);
  });

  test("a second one leaves it running", async () => {
    const ran = await berth(
      "launch nginx",
      { watchOperation: () => new Events([running]) },
      {
        terminal: true,
        during: (keys) => {
          pressOnceWatched(keys);
          void until(() => keys.stderr().includes("[c]")).then(() => keys.interrupt());
        },
      },
    );
    expect(ran.code).toBe(130);
  });

  function pressOnceWatched(keys: { interrupt(): void }): void {
    void until(() => (berthd?.callsOf("watchOperation").length ?? 0) > 0).then(() => keys.interrupt());
  }
});

/** Resolves once something is so. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe("instances", () => {
  test("ls", async () => {
    const ran = await berth("ls -l team=a --phase running");
    expect(ran.stdout).toMatch(
      /^NAME {2}IMAGE +PHASE +READY {2}PORTS +AGE +CPUS {2}MEMORY\nweb {3}docker.io\/library\/nginx:latest {2}running {2}yes +127.0.0.1:8080->80\/tcp +\d+d +1 +512 MiB\n$/,
    );
    expect(berthd?.calls[0]?.query.getAll("label")).toEqual(["team=a"]);
    expect(berthd?.calls[0]?.headers.authorization).toBe("Bearer berth_test");
  });

  test("ls goes on to the last page, -q prints names", async () => {
    const pages: Handler = ({ query }) => ({ items: [instance], nextCursor: query.get("cursor") ? null : "next" });
    expect((await berth("ls -q", { listInstances: pages })).stdout).toBe("web\nweb\n");
  });

  test("show", async () => {
    const { stdout } = await berth("show web");
    expect(stdout).toContain("Ports:        127.0.0.1:8080->80/tcp\n");
    expect(stdout).toMatch(/^Up: /m);
    expect(berthd?.calls[0]?.params).toEqual({ instance: "web" });
    await berthd?.stop();
    const stopped = { ...instance, status: { ...instance.status, phase: "stopped" } };
    expect((await berth("show web", { getInstance: () => stopped })).stdout).not.toMatch(/^Up: /m);
  });

  test.each([
    ["start web", "startInstance", {}],
    ["stop web", "stopInstance", {}],
    ["stop -f web", "stopInstance", { force: "true" }],
    ["restart web", "restartInstance", {}],
    ["rm web", "deleteInstance", {}],
    ["rm --force web", "deleteInstance", { force: "true" }],
  ] as const)("%s", async (line, route, query) => {
    const ran = await berth(line);
    expect(ran).toMatchObject({ code: 0, stdout: "web\n" });
    expect(Object.fromEntries(berthd?.callsOf(route)[0]?.query ?? [])).toEqual(query);
  });

  describe("fork", () => {
    const children = ["web-1", "web-2"].map((name) => ({ ...instance, name }));
    const [step] = operation.steps;
    const saved = { ...operation, steps: [{ ...step, name: "save-memory", detail: "stood still for 12 ms" }] };
    const forked = () => ({ instance, operation: saved, children });

    test("waits, says how long the parent stood still, and prints the names", async () => {
      const handlers = { forkInstance: forked, getOperation: () => saved, watchOperation: () => new Events([saved]) };
      const line = "fork web --count 2 --name trial -p 80 -p 0.0.0.0::53/udp -l team=a";
      const ran = await berth(line, { ...handlers, getInstance: () => ({ ...instance, name: "trial-1" }) });
      expect(ran).toMatchObject({ code: 0, stdout: "trial-1\ntrial-1\n" });
      expect(ran.stderr).toContain("web stood still for 12 ms.\n");
      expect(berthd?.callsOf("forkInstance")[0]?.json).toEqual({
        ...{ count: 2, name: "trial", labels: { team: "a" } },
        ports: [{ guestPort: 80 }, { hostAddress: "0.0.0.0", guestPort: 53, protocol: "udp" }],
      });
    });

    test("--detach does not wait, --json prints the children", async () => {
      const ran = await berth("fork web -n 2 -d --json", { forkInstance: forked });
      expect(JSON.parse(ran.stdout).map(({ name }: Instance) => name)).toEqual(["web-1", "web-2"]);
      expect(berthd?.callsOf("watchOperation")).toEqual([]);
      expect(berthd?.callsOf("forkInstance")[0]?.json).toEqual({ count: 2, labels: {} });
    });

    test("of none, or of too many, is refused here", async () => {
      for (const count of ["0", "101"]) {
        const ran = await berth(`fork web --count ${count}`);
        expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining("--count is 1 to 100") });
        expect(berthd?.calls).toEqual([]);
        await berthd?.stop();
      }
    });
  });

  test("show tells what it is a fork or a copy of", async () => {
    const parent = { id: ids.instance, name: "db" };
    const fork = { kind: "fork", instance: parent, index: 0 };
    expect((await berth("show web", { getInstance: () => ({ ...instance, origin: fork }) })).stdout).toMatch(
      /^From: +a fork of db$/m,
    );
    await berthd?.stop();
    const copy = { kind: "snapshot", instance: parent, snapshot: { id: "snap-00000000000000001", name: "one" } };
    expect((await berth("show web", { getInstance: () => ({ ...instance, origin: copy }) })).stdout).toMatch(
      /^From: +the snapshot one of db$/m,
    );
  });

  test("set asks for the change and says when each part of it holds", async () => {
    const line =
      "set web --name shop --cpus 2 -m 1G --disk 20G -e A=b --unset-env C -l team=b --unset-label tier --no-tty --restart on-failure:3";
    const ran = await berth(`${line} --stop-timeout 3 --entrypoint /run -- serve -v`, {
      changeInstance: () => ({
        instance,
        operation,
        effects: [
          { field: "memoryMib", takes: "restart" },
          { field: "labels", takes: "live" },
        ],
      }),
    });
    expect(ran).toMatchObject({ code: 0, stdout: "memoryMib:  at the next start\nlabels:     now\n" });
    const [call] = berthd?.callsOf("changeInstance") ?? [];
    expect(call?.json).toEqual({
      ...{ name: "shop", cpus: 2, memoryMib: 1024, diskMib: 20_480 },
      ...{ env: { A: "b", C: null }, labels: { team: "b", tier: null } },
      ...{ restart: "on-failure:3", tty: false, stopTimeoutMs: 3000, entrypoint: ["/run"], command: ["serve", "-v"] },
    });
    expect(call?.headers["if-match"]).toBeUndefined();
    expect(berthd?.callsOf("restartInstance")).toEqual([]);
  });

  test("rebuild asks for the new root disk, and tells where the former one is kept", async () => {
    const ran = await berth("rebuild web --image nginx:2 --force");
    expect(ran).toMatchObject({ code: 0, stdout: "web\n" });
    expect(ran.stderr).toContain("is kept as web-before-rebuild.");
    expect(berthd?.callsOf("rebuildInstance")[0]?.json).toEqual({ image: "nginx:2", force: true });
  });

  test("rebuild asks before what was goes, and does nothing when nobody can be asked", async () => {
    const rebuildInstance = () => ({ instance, operation, kept: null });
    expect(await berth("rebuild web --discard", { rebuildInstance })).toMatchObject({ code: 2 });
    expect(berthd?.callsOf("rebuildInstance")).toEqual([]);
    expect(await berth("rebuild web --discard --yes", { rebuildInstance })).toMatchObject({ code: 0, stdout: "web\n" });
    expect(berthd?.callsOf("rebuildInstance")[0]?.json).toEqual({ discard: true });
  });

  test.each<[string, object | null]>([
    ["--snapshots 1h", { everySeconds: 3600 }],
    [
      "--snapshots 15m --keep 4,24h,7d,4w,12mo",
      { everySeconds: 900, keep: { last: 4, hours: 24, days: 7, weeks: 4, months: 12 } },
    ],
    ["--keep 7d", { keep: { days: 7 } }],
    ["--snapshots off", null],
  ])("set %s asks for that schedule of snapshots", async (options, snapshots) => {
    expect(await berth(`set web ${options}`)).toMatchObject({ code: 0 });
    expect(berthd?.callsOf("changeInstance")[0]?.json).toEqual({ snapshots });
  });

  test("show tells of the schedule of snapshots, and of what went wrong", async () => {
    const keep = { last: 2, hours: 24, days: 7, weeks: 4, months: 0 };
    const nextAt = new Date(Date.now() + 90 * 60_000 + 5_000).toISOString();
    const snapshots = { lastAt: instance.createdAt, nextAt, failures: 2, reason: "no room" };
    const getInstance = () => ({
      ...instance,
      spec: { ...instance.spec, snapshots: { everySeconds: 5400, keep } },
      status: { ...instance.status, snapshots },
    });
    const { stdout } = await berth("show web", { getInstance });
    expect(stdout).toMatch(/^Snapshots: +every 90m, keeping 2,24h,7d,4w$/m);
    expect(stdout).toMatch(/^Next snapshot: +in 1h; failed 2 times: no room$/m);
  });

  test("set replaces the list of ports, unless it has changed since", async () => {
    await berth("set web --unpublish 80 -p 8081:80 -p 53/udp");
    const [call] = berthd?.callsOf("changeInstance") ?? [];
    expect(call?.json).toEqual({
      ports: [
        { hostPort: 8081, guestPort: 80 },
        { guestPort: 53, protocol: "udp" },
      ],
    });
    expect(call?.headers["if-match"]).toBe('"1"');
    await berthd?.stop();
    await berth("set web -p 443");
    const { ports } = instance.spec;
    expect(berthd?.callsOf("changeInstance")[0]?.json).toEqual({ ports: [...ports, { guestPort: 443 }] });
  });

  test("set --restart-now restarts what runs and needs it", async () => {
    expect(await berth("set web --cpus 2 --restart-now")).toMatchObject({ code: 0, stdout: "memoryMib:  now\n" });
    expect(berthd?.callsOf("restartInstance")).toHaveLength(1);
    await berthd?.stop();
    const changeInstance = () => ({ instance, operation, effects: [{ field: "labels", takes: "live" }] });
    await berth("set web -l a=b --restart-now", { changeInstance });
    expect(berthd?.callsOf("restartInstance")).toEqual([]);
    await berthd?.stop();
    const getInstance = () => ({ ...instance, status: { ...instance.status, phase: "stopped" } });
    const ran = await berth("set web --cpus 2 --restart-now", { getInstance });
    expect(ran.stdout).toBe("memoryMib:  at the next start\n");
    expect(berthd?.callsOf("restartInstance")).toEqual([]);
  });

  test("show tells of the restart policy, what it did and what it will do", async () => {
    const restarts = { count: 2, delayMs: 4000, nextAt: new Date(Date.now() + 3500).toISOString() };
    const spec = { ...instance.spec, restart: "on-failure:3" };
    const restarting = { ...instance, spec, status: { ...instance.status, restarts } };
    const { stdout } = await berth("show web", { getInstance: () => restarting });
    expect(stdout).toMatch(/^Restart: +on-failure:3\nRestarts: +2 \(the next in [34] s\)$/m);
  });

  test.each([
    ["set web --restart sometimes", "must be no, on-failure"],
    ["set web", "Say what to change"],
    ["set web --restart-now", "holds after a restart: berth restart."],
    ["set web --unpublish 81", "81/tcp is not published so"],
    ["set web --unpublish 8081:80", "80/tcp is not published so"],
    ["set web --unpublish 80/udp", "80/udp is not published so"],
  ])("%s makes no sense", async (line, words) => {
    const ran = await berth(line);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining(words) });
    expect(berthd?.callsOf("changeInstance")).toEqual([]);
  });

  test("show and ls tell that changes wait for the next start", async () => {
    const waiting = { ...instance, status: { ...instance.status, pending: ["cpus", "env"] } };
    const { stdout } = await berth("show web", { getInstance: () => waiting });
    expect(stdout).toContain("Pending:      cpus, env (at the next start)\n");
    await berthd?.stop();
    const listed = await berth("ls", { listInstances: () => ({ items: [waiting], nextCursor: null }) });
    expect(listed.stdout).toContain(" running* ");
  });

  test("several names: one that fails does not keep the others", async () => {
    const ran = await berth("rm gone web", {
      deleteInstance: ({ params }) => {
        if (params.instance === "gone") throw new Refusal(404, "not_found", "There is no instance gone.");
        return { instance, operation };
      },
    });
    expect(ran).toMatchObject({ code: 1, stdout: "web\n" });
    expect(ran.stderr).toContain("There is no instance gone.\nHint: What to do next.");
  });

  test("logs: everything into a pipe, nothing that a terminal would obey onto one", async () => {
    const instanceLogs = () => "a\u001b]0;title\u0007b\u001b[31mred\u001b[0m\u001b[2Jc\r\nd\u0008e\n";
    expect((await berth("logs --tail 5 -t web", { instanceLogs })).stdout).toBe(instanceLogs());
    expect(Object.fromEntries(berthd?.calls[0]?.query ?? [])).toEqual({ tail: "5", timestamps: "true" });
    await berthd?.stop();
    expect((await berth("logs web", { instanceLogs }, { terminal: true })).stdout).toBe(
      "ab\u001b[31mred\u001b[0mc\nde\n",
    );
  });

  test("logs --json", async () => {
    const ran = await berth("logs --json web", { instanceLogs: () => "2026-01-01T00:00:00Z hello there\n" });
    expect(JSON.parse(ran.stdout)).toEqual({ at: "2026-01-01T00:00:00Z", line: "hello there" });
  });
});

describe("in the guest", () => {
  const program =
    (code: number): SocketHandler =>
    (socket, request) => {
      socket.send(frame("stdout", `${JSON.stringify(request)}\n`));
      socket.send(frame("stderr", "oops\n"));
      socket.send(frame("control", JSON.stringify({ exit: { code } })));
    };

  test("exec: the program's output and exit code", async () => {
    const ran = await berth("exec -u www -w /srv -e A=b web ls -l", {}, { socket: program(7) });
    expect(ran).toMatchObject({ code: 7, stderr: "oops\n" });
    expect(JSON.parse(ran.stdout)).toMatchObject({
      command: ["ls", "-l"],
      user: "www",
      workingDir: "/srv",
      env: { A: "b" },
      stdin: false,
      tty: false,
    });
  });

  test("exec -i sends standard input and its end", async () => {
    const echo: SocketHandler = (socket) => {
      socket.on("message", (data: Buffer) => {
        if (data[0] !== 0) return;
        socket.send(
          data.length > 1
            ? Buffer.concat([Buffer.from([1]), data.subarray(1)])
            : frame("control", '{"exit":{"code":0}}'),
        );
      });
    };
    expect(await berth("exec -i web -- cat", {}, { socket: echo, input: "abc" })).toEqual({
      code: 0,
      stdout: "abc",
      stderr: "",
    });
  });

  test("exec -it: a terminal with its size, raw", async () => {
    const ran = await berth("exec -it web -- vi", {}, { socket: program(0), terminal: true });
    expect(JSON.parse(ran.stdout)).toMatchObject({ tty: true, stdin: true, cols: 100, rows: 30 });
  });

  test("exec: what Berth cannot do is 125", async () => {
    const error = {
      type: "",
      title: "The instance is not running",
      status: 409,
      code: "instance_not_running",
      detail: "web is off.",
      hint: "Start it.",
    };
    const ran = await berth(
      "exec web true",
      {},
      { socket: (socket) => socket.send(frame("control", JSON.stringify({ error }))) },
    );
    expect(ran).toEqual({
      code: 125,
      stdout: "",
      stderr: "berth: The instance is not running\nweb is off.\nHint: Start it.\n",
    });
  });

  test("exec --json", async () => {
    const ran = await berth("exec --json web true", {}, { socket: program(3) });
    expect(JSON.parse(ran.stdout)).toMatchObject({ exitCode: 3, stderr: "oops\n" });
    expect(ran.code).toBe(3);
  });

  test("shell: bash where there is one", async () => {
    const seen: string[][] = [];
    const guest: SocketHandler = (socket, request) => {
      seen.push((request as { command: string[] }).command);
      if (seen.length === 1) socket.send(frame("stdout", "bash\n"));
      socket.send(frame("control", JSON.stringify({ exit: { code: 0 } })));
    };
    expect((await berth("shell web", {}, { socket: guest, terminal: true })).code).toBe(0);
    expect(seen[1]).toEqual(["bash"]);
  });

  test("shell: none", async () => {
    const ran = await berth("shell web", {}, { socket: program(127), terminal: true });
    expect(ran.code).toBe(125);
    expect(ran.stderr).toContain("The image of web has no shell.");
  });

  test("console: Ctrl-] leaves", async () => {
    const echo: SocketHandler = (socket) => {
      socket.send(frame("stdout", "login: "));
      socket.on("message", (data: Buffer) => socket.send(Buffer.concat([Buffer.from([1]), data.subarray(1)])));
    };
    const ran = await berth(
      "console web",
      {},
      {
        socket: echo,
        terminal: true,
        during: (keys) => {
          void until(() => keys.stderr().includes("Ctrl-]")).then(async () => {
            keys.type("root");
            await until(() => keys.stdout().endsWith("root"));
            keys.type("\u001d");
          });
        },
      },
    );
    expect(ran).toMatchObject({ code: 0, stdout: "login: root" });
  });
});

describe("images", () => {
  test("pull", async () => {
    expect(await berth("image pull nginx --refresh")).toMatchObject({ code: 0, stdout: `${ids.image}\n` });
    expect(berthd?.callsOf("pullImage")[0]?.json).toEqual({ reference: "nginx", refresh: true });
  });

  test("build shows the end of its log when it fails", async () => {
    const ran = await berth("image build https://example.com/a.git -t me/a:1 --build-arg V=1", {
      watchOperation: () => new Events([{ ...operation, steps: [], status: "failed", error: null }]),
    });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("STEP 1\nSTEP 2\n");
    expect(berthd?.callsOf("buildImage")[0]?.json).toMatchObject({ reference: "me/a:1", buildArgs: { V: "1" } });
  });

  test("ls, show and rm", async () => {
    expect((await berth("image ls")).stdout).toContain(`docker.io/library/nginx:latest  ${ids.image}  ready  12.3 MB`);
    await berthd?.stop();
    const failed = { ...image, references: [], state: "failed", reason: "no such tag" };
    const listed = await berth("image ls", { listImages: () => ({ items: [failed], nextCursor: null }) });
    expect(listed.stdout).toMatch(/^\(docker\.io\/library\/nginx:latest\) .* failed /m);
    await berthd?.stop();
    expect((await berth("image show nginx")).stdout).toContain("Platform:    linux/amd64");
    expect(berthd?.calls[0]?.query.get("reference")).toBe("nginx");
    await berthd?.stop();
    expect((await berth("image rm nginx")).stdout).toBe(`${ids.image}\n`);
    await berthd?.stop();
    expect(await berth("image rm nope", { listImages: () => ({ items: [], nextCursor: null }) })).toMatchObject({
      code: 1,
    });
  });
});

test.each([
  [0, 0],
  [3, 1],
])("launch says when what it launched has ended already: exit code %i makes %i", async (exitCode, code) => {
  const ended = { ...instance, status: { ...instance.status, phase: "stopped", exitCode } } as const;
  const ran = await berth("launch nginx -- false", { getInstance: () => ended });
  expect(ran).toMatchObject({ code, stdout: "web\n" });
  expect(ran.stderr).toContain(`web has ended already, with exit code ${exitCode}.`);
});

describe("templates", () => {
  test("launch says how it began; --cold and --warm ask for one way", async () => {
    const began = (start: Instance["status"]["start"]) => ({
      getInstance: () => ({ ...instance, status: { ...instance.status, start } }),
    });
    const warm = { mode: "warm", reason: `cloned from the template ${ids.template}` } as const;
    const ran = await berth("launch nginx --warm", began(warm));
    expect(ran.stderr).toContain(`Warm start: cloned from the template ${ids.template}.\n`);
    expect(berthd?.callsOf("createInstance")[0]?.json).toMatchObject({ warm: "require" });
    await berthd?.stop();
    const { stdout } = await berth(
      "launch nginx --cold --json",
      began({ mode: "cold", reason: "a cold start was asked for" }),
    );
    expect(berthd?.callsOf("createInstance")[0]?.json).toMatchObject({ warm: "never" });
    expect(JSON.parse(stdout).status.start).toEqual({ mode: "cold", reason: "a cold start was asked for" });
    await berthd?.stop();
    expect((await berth("show web", began(warm))).stdout).toContain(`Began:        Warm start: cloned from`);
    await berthd?.stop();
    expect(await berth("launch nginx --cold --warm")).toMatchObject({ code: 2 });
    await berthd?.stop();
    await berth("launch --warm nginx server --warm=x");
    expect(berthd?.callsOf("createInstance")[0]?.json).toMatchObject({
      image: "nginx",
      warm: "require",
      command: ["server", "--warm=x"],
    });
    await berthd?.stop();
    await berth("launch --warm=app nginx");
    expect(berthd?.callsOf("createInstance")[0]?.json).toMatchObject({ image: "nginx", warm: "app" });
    await berthd?.stop();
    expect(await berth("launch --warm=hot nginx")).toMatchObject({ code: 2 });
  });

  test("ls, show, rm", async () => {
    expect((await berth("template ls")).stdout).toContain(
      `${ids.template}  docker.io/library/nginx:latest  ready  1     512 MiB`,
    );
    await berthd?.stop();
    expect((await berth("template ls -q")).stdout).toBe(`${ids.template}\n`);
    await berthd?.stop();
    expect((await berth(`template show ${ids.template}`)).stdout).toContain("Size:        72.3 MB\n");
    await berthd?.stop();
    expect((await berth(`template rm ${ids.template}`)).stdout).toBe(`${ids.template}\n`);
  });

  test("prune names what goes, and why", async () => {
    const items = [{ template, reason: "its image is gone", operationId: ids.operation }];
    const ran = await berth("template prune --unused-for 7d --keep 2G", { pruneTemplates: () => ({ items }) });
    expect(ran.stdout).toContain(`${ids.template}  docker.io/library/nginx:latest  its image is gone\n`);
    expect(berthd?.callsOf("pruneTemplates")[0]?.json).toEqual({
      unusedForMs: 604_800_000,
      keepMib: 2048,
      dryRun: false,
    });
    await berthd?.stop();
    expect((await berth("template prune --dry-run --unused-for 0")).stderr).toBe("There is nothing to prune.\n");
    expect(berthd?.callsOf("pruneTemplates")[0]?.json).toEqual({ unusedForMs: 0, dryRun: true });
    await berthd?.stop();
    expect(await berth("template prune --unused-for soon")).toMatchObject({ code: 2 });
  });
});

describe("projects and tokens", () => {
  test("create prints the secret alone, and says what was asked", async () => {
    const words = "token create --name ci --role operator --scope instance --scope image:read --project shop";
    const before = Date.now();
    const made = await berth(`${words} --expires 30d`);
    expect(made.stdout).toBe("berth_secret\n");
    expect(made.stderr).toContain("shown this once");
    const [call] = berthd?.callsOf("createToken") ?? [];
    expect(call?.query.get("project")).toBe("shop");
    const { expiresAt, ...rest } = Object(call?.json);
    expect(rest).toEqual({ name: "ci", role: "operator", scopes: ["instance", "image:read"] });
    expect(Date.parse(expiresAt) - before).toBeGreaterThanOrEqual(30 * 86_400_000);
    await berthd?.stop();
    await berth("token create --name ops --system");
    expect(berthd?.callsOf("createToken").at(-1)?.json).toEqual({ name: "ops", system: true });
    await berthd?.stop();
    expect(await berth("token create --role viewer")).toMatchObject({ code: 2 });
  });

  test("ls, show and rm of both", async () => {
    expect((await berth("token ls")).stdout).toMatch(
      /^NAME +PROJECT +ROLE +SCOPES +EXPIRES +USED +AGE\nci +shop +operator +instance,image:read +2100-01-01 +never +\d+d\n$/,
    );
    expect((await berth("token show ci")).stdout).toMatch(/Secret: +berth_Ab12…\n/);
    expect((await berth("token rm ci")).stdout).toBe("ci\n");
    expect((await berth("project create shop")).stdout).toBe("shop\n");
    expect((await berth("project ls")).stdout).toMatch(/^NAME +AGE\nshop +\d+d\n$/);
    expect((await berth("project show shop")).stdout).toMatch(/^Name: +shop\n/);
    expect((await berth("project show shop")).stdout).toMatch(/Memory: +1 GiB of 16 GiB\n/);
    expect((await berth("project set shop --instances 3 --memory 16G --ports none")).stdout).toMatch(
      /^Instances: +2 of 10\nCPUs: +2\n/,
    );
    expect(berthd?.callsOf("changeQuota")[0]?.json).toEqual({ instances: 3, memoryMib: 16_384, ports: null });
    expect(await berth("project set shop")).toMatchObject({ code: 2 });
    expect((await berth("project rm shop")).stdout).toBe("shop\n");
  });

  test("--project goes before BERTH_PROJECT, to every request that is for a project and no other", async () => {
    await berth("pool ls --project shop");
    expect(berthd?.callsOf("listPools").at(-1)?.query.get("project")).toBe("shop");
    await berth("pool ls");
    expect(berthd?.callsOf("listPools").at(-1)?.query.get("project")).toBe(null);
    await berth("node ls --project shop");
    expect(berthd?.callsOf("listNodes").at(-1)?.query.size).toBe(0);
  });
});

describe("users", () => {
  test("create and reset print the link alone, with a role in the project asked for, else one's own", async () => {
    const made = await berth("user create alice --role operator");
    expect(made.stdout).toBe(`${berthd?.url}/password#berthr_code\n`);
    expect(berthd?.callsOf("createUser")[0]?.json).toEqual({ name: "alice", roles: { shop: "operator" } });
    await berthd?.stop();
    await berth("user create alice --role viewer --project lab --admin");
    expect(berthd?.callsOf("createUser")[0]?.json).toEqual({ name: "alice", admin: true, roles: { lab: "viewer" } });
    expect(berthd?.callsOf("whoAmI")).toEqual([]);
    await berthd?.stop();
    expect((await berth("user reset alice")).stdout).toBe(`${berthd?.url}/password#berthr_code\n`);
  });

  test("set, ls, show and rm; whoami", async () => {
    expect((await berth("user set alice --role none --project lab --no-admin")).stdout).toBe("alice\n");
    expect(berthd?.callsOf("changeUser")[0]?.json).toEqual({ admin: false, roles: { lab: null } });
    await berthd?.stop();
    expect(await berth("user set alice")).toMatchObject({ code: 2 });
    await berthd?.stop();
    expect(await berth("user set alice --admin --no-admin")).toMatchObject({ code: 2 });
    await berthd?.stop();
    expect((await berth("user ls")).stdout).toMatch(/^NAME +ROLES +LOGIN +AGE\nalice +shop:operator +never +\d+d\n$/);
    await berthd?.stop();
    expect((await berth("user show alice")).stdout).toMatch(/Roles: +operator of shop\n/);
    await berthd?.stop();
    expect((await berth("user rm alice")).stdout).toBe("alice\n");
    await berthd?.stop();
    expect((await berth("whoami")).stdout).toMatch(/^Name: +ci\nKind: +token\n/);
  });
});

describe("pools", () => {
  test("create, ls, show, set, rm", async () => {
    const listPools = () => ({ items: [pool], nextCursor: null });
    expect((await berth("pool create spare --image nginx --size 5 --cpus 2 -m 1G")).stdout).toBe("spare\n");
    expect(berthd?.callsOf("createPool")[0]?.json).toEqual({
      name: "spare",
      image: "nginx",
      size: 5,
      cpus: 2,
      memoryMib: 1024,
    });
    await berthd?.stop();
    expect((await berth("pool ls", { listPools })).stdout).toMatch(
      /^NAME +IMAGE +READY +CPUS +MEMORY +TAKES +USES +AGE\nspare +docker.io\/library\/nginx:latest +3\/5 +1 +512 MiB +123 MB +7 /,
    );
    await berthd?.stop();
    expect((await berth("pool show spare")).stdout).toContain("123 MB of the node's memory\n");
    await berthd?.stop();
    expect((await berth("pool set spare --size 2")).stdout).toBe("spare\n");
    expect(berthd?.callsOf("changePool")[0]?.json).toEqual({ size: 2 });
    await berthd?.stop();
    expect((await berth("pool rm spare")).stdout).toBe("spare\n");
    await berthd?.stop();
    expect(await berth("pool create spare --image nginx")).toMatchObject({ code: 2 });
    await berthd?.stop();
    expect(await berth("pool set spare")).toMatchObject({ code: 2 });
  });

  test("down empties them", async () => {
    const listPools = () => ({ items: [pool], nextCursor: null });
    await berth("down --all --yes", { listPools });
    expect(berthd?.callsOf("changePool").map(({ json }) => json)).toEqual([{ size: 0 }]);
  });
});

describe("operations, events, nodes", () => {
  test("op ls, show, cancel, wait, log", async () => {
    const cases = [
      ["op ls --unfinished", `${ids.operation}  instance.create  web     succeeded  2.0 s`],
      [`op show ${ids.operation} --log`, "create-disks  succeeded  1.5 s  root\nSTEP 1"],
      [`op cancel ${ids.operation}`, `${ids.operation}\n`],
      [`op wait ${ids.operation}`, "succeeded\n"],
      [`op log ${ids.operation}`, "STEP 1\nSTEP 2\n"],
    ] as const;
    for (const [line, words] of cases) {
      const ran = await berth(line);
      expect(ran.stdout).toContain(words);
      expect(ran.code).toBe(0);
      await berthd?.stop();
    }
  });

  test("what was taken back is told without a time, which would be how long ago it was done", async () => {
    const steps = [{ ...operation.steps[0], status: "undone" as const }];
    const cancelled = { ...operation, status: "cancelled" as const, steps };
    const shown = await berth(`op show ${ids.operation}`, { getOperation: () => cancelled });
    expect(shown.stdout).toContain("create-disks  undone  -     root\n");
    await berthd?.stop();
    const waited = await berth(`op wait ${ids.operation}`, { watchOperation: () => new Events([cancelled]) });
    expect(waited.stderr).toContain("create-disks: undone\n");
  });

  test("op wait ends with 1 when it failed", async () => {
    const watchOperation = () => new Events([{ ...operation, status: "failed" }]);
    expect(await berth(`op wait ${ids.operation}`, { watchOperation })).toMatchObject({ code: 1, stdout: "failed\n" });
  });

  const event = {
    seq: 7,
    type: "instance.created",
    project: "default",
    subject: { kind: "instance", id: ids.instance, name: "web" },
    operationId: null,
    data: { phase: "running", reason: "" },
    at: instance.createdAt,
  };

  test("events --list", async () => {
    const listEvents: Handler = ({ query }) =>
      query.get("after") === "0" ? { items: [event], next: 7, gap: null } : { items: [], next: 7, gap: null };
    expect((await berth("events --list", { listEvents })).stdout).toBe(
      `7  ${instance.createdAt}  instance.created  web  phase=running\n`,
    );
  });

  test("events says what is not kept any more, and that numbers are of other records", async () => {
    const gap = { after: 2, next: 6 };
    const listEvents: Handler = ({ query }) =>
      query.get("after") === "7" ? { items: [], next: 7, gap: null } : { items: [event], next: 7, gap };
    const told = await berth("events --list --after 2", { listEvents });
    expect(told.stderr).toBe("Events 3 to 6 are not kept any more. See anew what there is.\n");
    expect(told.stdout).toContain("7  ");
    const all = await berth("events --list", { listEvents });
    expect(all.stderr).toBe("");
    const json = await berth("events --list --after 2 --json", { listEvents });
    expect(JSON.parse(json.stdout.split("\n")[0] ?? "")).toEqual({ gap });
    const others = { items: [], next: 3, gap: { after: 900, next: 3 } };
    expect((await berth("events --list --after 900", { listEvents: () => others })).stderr).toMatch(
      /^There is no event 900 here: the newest is 3/,
    );
  });

  test("events follows until Ctrl-C", async () => {
    const ran = await berth(
      "events --json",
      { streamEvents: () => new Events([event]) },
      {
        during: (keys) =>
          void until(() => (berthd?.callsOf("streamEvents").length ?? 0) > 1).then(() => keys.interrupt()),
      },
    );
    expect(ran.code).toBe(0);
    expect(JSON.parse(ran.stdout.split("\n")[0] ?? "")).toEqual(event);
  });

  test("node ls and show", async () => {
    expect((await berth("node ls")).stdout).toContain("node1  n-00000000000000001  0.1.0    2     24 GiB  tcg");
    await berthd?.stop();
    expect((await berth("node show node1")).stdout).toContain("ok    mke2fs: 1.47.0");
  });

  test("doctor: well, unwell and unreachable", async () => {
    expect(await berth("doctor")).toMatchObject({ code: 0 });
    await berthd?.stop();
    const checks = [{ name: "passt", ok: false, detail: "not installed", hint: "apt install passt" }];
    const unwell = await berth("doctor", { listNodes: () => ({ items: [{ ...node, checks }], nextCursor: null }) });
    expect(unwell.code).toBe(1);
    expect(unwell.stdout).toContain("FAIL  passt: not installed\n  Hint: apt install passt");
    const away = await runBerth(["doctor", "--json"]);
    expect(away.code).toBe(1);
    expect(JSON.parse(away.stdout)).toMatchObject({ ok: false, client: { ok: false } });
  });
});

describe("down and purge", () => {
  test("down needs --all and an answer", async () => {
    expect(await berth("down")).toMatchObject({ code: 2 });
    await berthd?.stop();
    expect(await berth("down --all")).toMatchObject({ code: 2, stderr: expect.stringContaining("--yes") });
    await berthd?.stop();
    expect(await berth("down --all --yes")).toMatchObject({ code: 0, stdout: "web\n" });
    await berthd?.stop();
    const asked = await berth(
      "down --all",
      {},
      {
        terminal: true,
        during: (keys) => void until(() => keys.stderr().includes("Type yes")).then(() => keys.type("no\n")),
      },
    );
    expect(asked.code).toBe(2);
    expect(berthd?.callsOf("stopInstance")).toEqual([]);
  });

  test("purge does nothing where there is nothing", async () => {
    const ran = await berth("purge --yes", {}, { env: { BERTH_DATA_DIR: "/nonexistent/berth" } });
    expect(ran).toMatchObject({ code: 0, stdout: "There is nothing at /nonexistent/berth.\n" });
    expect(berthd?.calls).toEqual([]);
  });
});

describe("the rest", () => {
  test.each(["version", "--version"])("%s", async (word) => {
    expect((await runBerth([word])).stdout).toMatch(/^berth \d+\.\d+\.\d+\n$/);
  });

  test("no berthd: says how to start it", async () => {
    const ran = await runBerth(["ls"]);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("npm start");
  });

  test("--json tells errors as problems", async () => {
    const ran = await berth("show gone --json", {
      getInstance: () => {
        throw new Refusal(404, "not_found", "gone");
      },
    });
    expect(JSON.parse(ran.stderr)).toMatchObject({ code: "not_found", detail: "gone" });
    expect(ran.stdout).toBe("");
  });

  test.each([["lss"], ["image nope"], ["ls --nope"], ["exec web"], ["completion tcsh"]])(
    "%s is a usage error",
    async (line) => {
      expect(await runBerth(line.split(" "))).toMatchObject({ code: 2, stdout: "" });
    },
  );

  test("help without a command", async () => {
    const ran = await runBerth([]);
    expect(ran.code).toBe(0);
    expect(ran.stdout).toContain("launch      Make an instance from an image");
  });
});
