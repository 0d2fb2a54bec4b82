import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { ExecRequest } from "@berth/api";
import { extract, pack } from "tar-stream";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { GuestChannel } from "./channel.ts";
import { type GuestProcess, machineIdOf } from "./config.ts";
import { stateFromLog } from "./facts.ts";
import { createKeys } from "./keys.ts";
import { GuestMachine, makeGuestDisk, soon } from "./testing/guest-machine.ts";

const host = localHost();

describe("a running guest", () => {
  let machine: GuestMachine;

  /** Listens on loopback first and properly when told to; ends with 5 when asked to. */
  const script = `
    trap 'echo ended; exit 5' TERM
    id; pwd; env; echo to-stderr > /dev/stderr
    httpd -f -p 127.0.0.1:8080 & first=$!
    while [ ! -e /job/go ]; do sleep 0.1; done
    kill $first; wait $first
    httpd -f -p 8080 &
    while :; do sleep 0.1; done`;

  beforeAll(async () => {
    const folder = await scratchDirectory("guest");
    machine = new GuestMachine(folder);
    await machine.boot(await makeGuestDisk(folder), {
      process: { argv: ["sh", "-c", script], user: "app", workingDir: "/job" },
      watchPorts: [8080],
    });
    await machine.waitFor(({ reason }) => reason.includes("127.0.0.1"));
  });
  afterAll(() => machine.end());

  const run: GuestMachine["run"] = (request, input) => machine.run(request, input);

  it("is not ready while its port is open on loopback only, and says so", () => {
    const seen = machine.hub.latest(machine.id);
    expect(seen).toMatchObject({ phase: "running", ready: false, listening: [], exit: null, failure: null });
    expect(seen?.reason).toBe("port 8080 is listened on at 127.0.0.1 only; it must listen on 0.0.0.0");
  });

  it("becomes ready by observation", async () => {
    await run({ command: ["touch", "/job/go"], user: "root" });
    const seen = await machine.waitFor(({ ready }) => ready);
    expect(seen).toMatchObject({ ready: true, reason: "", listening: [8080] });
  });

  it("runs the process as its user, in its folder, with its environment, its words on the console", async () => {
    const words = (await machine.log("console")).split("\n");
    expect(words).toEqual(
      expect.arrayContaining(["uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)", "/job", "COLOUR=blue"]),
    );
    expect(words).toEqual(expect.arrayContaining(["HOME=/home/app", "to-stderr"]));
  });

  it("runs programs beside it with streams, input and exit codes", async () => {
    expect(await run({ command: ["sh", "-c", "cat; echo bad >&2; exit 7"] }, "in")).toEqual({
      stdout: "in",
      stderr: "bad\n",
      code: 7,
    });
    expect(await run({ command: ["id", "-u"] })).toMatchObject({ stdout: "1000\n" });
    expect(await run({ command: ["id"], user: "7:extra", workingDir: "/etc" })).toMatchObject({
      stdout: "uid=7 gid=2000(extra) groups=2000(extra)\n",
    });
    expect(await run({ command: ["sh", "-c", "echo $COLOUR $SIZE; pwd"], env: { SIZE: "big" } })).toMatchObject({
      stdout: "blue big\n/job\n",
    });
    expect(await run({ command: ["sh", "-c", "kill -9 $$"] })).toMatchObject({ code: 137 });
  });

  it("says in docker's words why a program cannot run", async () => {
    expect(await run({ command: ["nothing"] })).toMatchObject({
      code: 127,
      stderr: 'exec: "nothing": executable file not found in $PATH\n',
    });
    expect(await run({ command: ["/not-executable"] })).toMatchObject({
      code: 126,
      stderr: 'exec: "/not-executable": permission denied\n',
    });
    expect(await run({ command: ["id"], workingDir: "/not/there" })).toMatchObject({
      code: 126,
      stderr: 'chdir to cwd ("/not/there") set in config failed: no such file or directory\n',
    });
    expect(await run({ command: ["ls", "/not"] })).toMatchObject({ code: 1 });
    expect(await run({ command: ["id"], user: "nobody" })).toMatchObject({
      code: 126,
      stderr: "unable to find user nobody: no matching entries in passwd file\n",
    });
  });

  it("takes requests longer than an SSH command may be, and refuses those longer than it can hold", async () => {
    const big = { command: ["sh", "-c", "printf %s $BIG | wc -c"], env: { BIG: "x".repeat(100_000) } };
    expect(await run(big)).toMatchObject({ stdout: "100000\n", code: 0 });
    const tooBig = {
      command: ["true"],
      env: { A: "x".repeat(100_000), B: "x".repeat(100_000), C: "x".repeat(100_000) },
    };
    await expect(run(tooBig)).rejects.toMatchObject({ code: "invalid_request" });
  });

  it("gives a terminal that has a name, a size and its signals", async () => {
    const channel = await machine.hub.channel(machine.id, soon());
    const command = [
      "sh",
      "-c",
      "tty; stty size; trap 'stty size; exit 4' WINCH; echo set; while :; do sleep 0.1; done",
    ];
    const session = await channel.exec(ExecRequest.parse({ command, tty: true, cols: 100, rows: 30 }), soon());
    let seen = "";
    for await (const chunk of session.stdout) {
      seen += chunk;
      if (seen.endsWith("set\r\n")) session.resize(120, 40);
    }
    expect(seen).toBe("/dev/pts/0\r\n30 100\r\nset\r\n40 120\r\n");
    expect(await session.exit).toEqual({ code: 4 });
  });

  it("runs many programs at once, again and again, beside one that goes on all the while", async () => {
    const lasting = await (await machine.hub.channel(machine.id, soon())).exec(
      ExecRequest.parse({ command: ["cat"], stdin: true }),
      soon(),
    );
    for (let round = 0; round < 3; round++) {
      const words = Array.from({ length: 30 }, (_, index) => `${round} ${index}`);
      const outputs = await Promise.all(words.map(async (word) => (await run({ command: ["echo", word] })).stdout));
      expect(outputs).toEqual(words.map((word) => `${word}\n`));
    }
    lasting.stdin.end("still here");
    expect(await text(lasting.stdout)).toBe("still here");
    expect(await lasting.exit).toEqual({ code: 0 });
  });

  it("does not hold what nobody reads, and ends a program with its session", async () => {
    const channel = await machine.hub.channel(machine.id, soon());
    const session = await channel.exec(ExecRequest.parse({ command: ["yes"] }), soon());
    // Others go on meanwhile, long enough to fill every window on the way.
    for (let time = 0; time < 5; time++) expect((await run({ command: ["echo", "on"] })).stdout).toBe("on\n");
    expect(session.stdout.readableLength).toBeLessThan(4 * 1024 ** 2);
    session.close();
    let list: string;
    do list = (await run({ command: ["ps"] })).stdout;
    while (/\byes$/m.test(list));
    expect(list).toContain("httpd");
  });

  it("moves files both ways with owners, and follows links within the image only", async () => {
    const channel = await machine.hub.channel(machine.id, soon());
    const archive = pack();
    archive.entry({ name: "in/a.txt", mode: 0o640, uid: 1000, gid: 2000 }, "hello");
    archive.finalize();
    await channel.writeTar("/job", Readable.from(archive), soon());
    expect((await run({ command: ["stat", "-c", "%U %G %a", "/job/in/a.txt"] })).stdout).toBe("app extra 640\n");

    const entries: [string, number | undefined, string][] = [];
    const reader = (await channel.readTar("/job/in", soon())).pipe(extract());
    for await (const entry of reader) entries.push([entry.header.name, entry.header.uid, await text(entry)]);
    expect(entries).toEqual(expect.arrayContaining([["in/a.txt", 1000, "hello"]]));

    // An absolute link leads to the image's /etc, not to that of the initramfs.
    const passwd = await buffer(await channel.readTar("/settings/passwd", soon()));
    expect(passwd.toString()).toContain("app:x:1000");
    await expect(channel.readTar("/none", soon())).rejects.toMatchObject({ code: "path_not_found" });
    await expect(channel.writeTar("/none", Readable.from([]), soon())).rejects.toMatchObject({
      code: "path_not_found",
    });
    await expect(channel.writeTar("/job", Readable.from([randomBytes(2000)]), soon())).rejects.toMatchObject({
      code: "invalid_request",
    });
  });

  it("lays its own files over the image's, which stay as they are", async () => {
    const { stdout } = await run({
      command: ["sh", "-c", "cat /etc/hosts /etc/resolv.conf /etc/hostname /etc/machine-id"],
    });
    expect(stdout).toContain(`10.0.2.15\tweb\nnameserver 10.0.2.3\nweb\n${machineIdOf(machine.id)}\n`);
    expect(stdout).not.toContain("the image's own");
  });

  it("has grown its file system to the disk and set its clock", async () => {
    const { stdout } = await run({ command: ["sh", "-c", "df -m / | grep vda || df -m /; date +%s"] });
    expect(Number(/ (\d+) +\d+ +\d+ +\d+% \/$/m.exec(stdout)?.[1])).toBeGreaterThan(900);
    expect(Math.abs(Number(stdout.trim().split("\n").pop()) - Date.now() / 1000)).toBeLessThan(10);
  });

  it("survives a host that goes away in the middle, on both ports", async () => {
    const channel = await machine.hub.channel(machine.id, soon());
    const session = await channel.exec(ExecRequest.parse({ command: ["yes"] }), soon());
    await once(session.stdout, "readable");
    for (const socket of machine.sockets.filter((socket) => !socket.destroyed)) {
      socket.write('{"command":"stop","signal":9,"timeo');
      socket.destroy();
    }
    await channel.closed;
    await expect(session.exit).rejects.toMatchObject({ code: "guest_unreachable" });
    await machine.waitFor(({ connected }) => connected);
    expect((await run({ command: ["echo", "again"] })).stdout).toBe("again\n");
    // The whole state comes with the next hello.
    const seen = await machine.waitFor(({ listening }) => listening.length > 0);
    expect(seen).toMatchObject({ phase: "running", ready: true });
  });

  it("lets in only who has the instance's key, and the host talks only to its own guest", async () => {
    (await machine.hub.channel(machine.id, soon())).close();
    const others = createKeys();
    const attempts = [
      { ...machine.keys, clientKey: others.clientKey },
      { ...machine.keys, hostPublicKey: others.hostPublicKey },
    ];
    for (const keys of attempts) {
      await expect(GuestChannel.connect(await machine.open("channel"), keys, soon())).rejects.toMatchObject({
        code: "guest_unreachable",
      });
    }
    // The same attempt with the right keys succeeds.
    (await GuestChannel.connect(await machine.open("channel"), machine.keys, soon())).close();
  });

  it("is stopped by the stop signal, tells the exit code on disk too, and powers off", async () => {
    await machine.waitFor(({ connected }) => connected);
    expect(machine.hub.stop(machine.id, { signal: 15, timeoutMs: 60_000 })).toBe(true);
    await machine.off();
    expect(stateFromLog((await machine.log("control")).split("\n"))).toMatchObject({
      phase: "exited",
      exit: { code: 5, signal: null },
    });
    expect(await machine.log("console")).toMatch(/ended\n$/);
    await machine.waitFor(({ gone }) => gone);
  });
});

describe("a guest's end", () => {
  let machine: GuestMachine;
  let folder: string;

  const boot = async (process: Partial<GuestProcess>) => {
    folder = await scratchDirectory("end");
    machine = new GuestMachine(folder);
    await machine.boot(await makeGuestDisk(folder), { process });
  };
  afterEach(() => machine.end());

  it("comes at once when the entrypoint does not exist", async () => {
    await boot({ argv: ["/app/server"] });
    const seen = await machine.waitFor(({ failure }) => failure !== null);
    expect(seen.failure).toEqual({
      code: 127,
      reason: 'exec: "/app/server": stat /app/server: no such file or directory',
    });
    await machine.off();
    expect(await machine.log("console")).toContain("no such file or directory");
  });

  it("comes with the exit code of a process on the console, and does not wait for a signal nobody hears", async () => {
    await boot({ argv: ["sh", "-c", "tty; read line; echo got $line; exec sleep 1000"], tty: true });
    await machine.waitFor(({ ready }) => ready);
    const console = await machine.open("console");
    console.write("typed\n");
    let seen = "";
    for await (const chunk of console) {
      seen += chunk;
      if (seen.includes("got typed")) break;
    }
    expect(await machine.log("console")).toContain("/dev/hvc0");
    // sleep has no handler, so as number 1 of its namespace it would never notice: the time limit is far beyond this test's.
    machine.hub.stop(machine.id, { signal: 15, timeoutMs: 3_600_000 });
    const { exit } = await machine.waitFor(({ exit }) => exit !== null);
    expect(exit).toEqual({ code: 137, signal: 9 });
    await machine.off();
    // The file system was left clean, and the image's own file was never touched.
    const disk = join(folder, "disk.img");
    await host.run("e2fsck", ["-fn", disk]);
    expect((await host.run("debugfs", ["-R", "cat /etc/hosts", disk])).stdout).toBe("the image's own\n");
  });
});
