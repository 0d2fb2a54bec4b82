import { mkdir, readdir, readFile, readlink, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { tinyGuest } from "../../../../../test/support/tiny-guest.ts";
import type { KitDescription } from "../../core/descriptions.ts";
import type { Host, ProcessIdentity } from "../../host/host.ts";
import { localHost } from "../../host/local.ts";
import { userNetdev } from "../../network/netdev.ts";
import { InstanceFolders, userRange } from "../../storage/instance-folder.ts";
import { createOverlay } from "../../storage/qcow2.ts";
import type { CreateInputs, Handle } from "../driver.ts";
import { probeAccelerator } from "./accelerator.ts";
import { qemuDriver } from "./driver.ts";
import { machinePaths } from "./handle.ts";
import { Machine } from "./machine.ts";

const host = localHost();
const installationId = `machine-${process.pid}`;
const range = process.getuid?.() === 0 ? userRange(installationId) : null;
const isOurs = (uid: number) => (range ? uid >= range.first && uid <= range.last : uid === process.getuid?.());
const instanceId = "i-00000000000000001";
const owner = { installationId, instanceId };
const signal = () => AbortSignal.timeout(60_000);

let folder: string;
let instancesDir: string;
let folders: InstanceFolders;
const made: Handle[] = [];

beforeAll(async () => {
  folder = await scratchDirectory("m");
  instancesDir = join(folder, "i");
  await mkdir(instancesDir, { mode: 0o711 });
  folders = new InstanceFolders({ host, root: instancesDir, range });
});

afterEach(async () => {
  for (const handle of made.splice(0)) await newDriver().destroy(handle);
  await folders.remove(instanceId);
});

/** A driver as a daemon has it after its start: nothing is remembered from the one before. */
function newDriver() {
  const accelerator = async () => ({ kind: "tcg" as const, reason: "for the test", probedAt: 0 });
  return qemuDriver({ host, location: "n/qemu", installationId, instancesDir, isOurs, accelerator });
}

async function make(kit: KitDescription, more: Partial<CreateInputs> = {}): Promise<Handle> {
  const { user } = await folders.create(instanceId);
  const inputs = { owner, name: "m", cpus: 1, memoryMib: 128, disks: [], nics: [], kit, user, launcher: [], ...more };
  const handle = await newDriver().create(inputs);
  made.push(handle);
  return handle;
}

const runRecord = () => join(instancesDir, instanceId, "run.json");

async function readRun(): Promise<{ hypervisor: ProcessIdentity | null; helpers: ProcessIdentity[]; bootId: string }> {
  return JSON.parse(await readFile(runRecord(), "utf8"));
}

/** Follows the control log until the guest has said that. */
async function untilSaid(handle: Handle, words: string): Promise<void> {
  const changes = host.files.watch(join(instancesDir, instanceId, "vm/log/control"), signal());
  for await (const _ of changes) if ((await newDriver().readControlLog?.(handle))?.includes(words)) return;
}

describe("a running machine", () => {
  let kit: KitDescription;

  beforeAll(async () => {
    kit = await tinyGuest(
      host,
      folder,
      'exec 3<> /dev/hvc1\nsay here\nread -r line <&3\nsay "heard $line"\nsay last\noff\n',
    );
  });

  test("is found, read and ended by its mark when the daemon died before it wrote down its process", async () => {
    const handle = await make(kit);
    await newDriver().start(handle, signal());
    const run = await readRun();
    await writeFile(runRecord(), JSON.stringify({ ...run, hypervisor: null, helpers: [] }));
    expect(await newDriver().inspect(handle)).toMatchObject({ power: "running" });
    await newDriver().start(handle, signal());
    const running = run.hypervisor as ProcessIdentity;
    expect(await host.isAlive(running)).toBe(true);
    await newDriver().powerOff(handle);
    expect(await host.isAlive(running)).toBe(false);
  });

  test("is ended even when the daemon died before it wrote down anything", async () => {
    const handle = await make(kit);
    await newDriver().start(handle, signal());
    const { hypervisor, helpers } = await readRun();
    await host.files.remove(join(instancesDir, instanceId, "machine.json"));
    await host.files.remove(runRecord());
    expect(await newDriver().list(installationId)).toEqual([{ owner, handle }]);
    await newDriver().destroy(handle);
    for (const process of [hypervisor, ...helpers]) {
      if (process) await host.waitForExit(process, signal());
    }
    expect(await newDriver().list(installationId)).toEqual([]);
  });

  test("loses nothing of what the guest says to its very end, and ends its helpers, with no daemon there", async () => {
    const handle = await make(kit);
    await newDriver().start(handle, signal());
    await untilSaid(handle, "here");
    const { hypervisor, helpers } = await readRun();
    const control = await newDriver().openPort?.(handle, "control", signal());
    control?.end("you\n");
    for (const process of [hypervisor, ...helpers]) if (process) await host.waitForExit(process, signal());
    expect(await newDriver().readControlLog?.(handle)).toEqual(expect.arrayContaining(["here", "heard you", "last"]));
    expect(await newDriver().inspect(handle)).toMatchObject({ exists: true, power: "stopped", reason: "" });
    // The next run has said nothing yet, and its end without a word is not the former one's.
    await newDriver().start(handle, signal());
    await newDriver().powerOff(handle);
    expect(await newDriver().readControlLog?.(handle)).toEqual([]);
  });

  test("has its last words read although those who write them down are behind", async () => {
    const handle = await make(kit);
    await newDriver().start(handle, signal());
    await untilSaid(handle, "here");
    const { hypervisor, helpers } = await readRun();
    for (const { pid } of helpers) process.kill(pid, "SIGSTOP");
    (await newDriver().openPort?.(handle, "control", signal()))?.end("you\n");
    if (hypervisor) await host.waitForExit(hypervisor, signal());
    const log = newDriver().readControlLog?.(handle);
    await expect(Promise.race([log, delay(500, "behind")])).resolves.toBe("behind");
    for (const { pid } of helpers) process.kill(pid, "SIGCONT");
    expect(await log).toEqual(expect.arrayContaining(["heard you", "last"]));
  });

  test.runIf(range)("publishes a port below 1024 with that one capability, as its own user", async () => {
    const hostPort = await host.tryPort("tcp", "127.0.0.1", 987);
    expect(hostPort).toBe(987);
    const forwards = [{ hostAddress: "127.0.0.1", hostPort: 987, guestPort: 80, protocol: "tcp" as const }];
    const nic = { name: "eth0", mac: "52:54:00:00:00:01", network: "user" as const, forwards };
    const handle = await make(kit, { nics: [{ ...nic, netdev: userNetdev(forwards, []) }] });
    await newDriver().start(handle, signal());
    const { user } = (await folders.find(instanceId)) ?? {};
    const status = await readFile(`/proc/${(await readRun()).hypervisor?.pid}/status`, "utf8");
    expect(status).toMatch(new RegExp(`^Uid:\\s+${user?.uid}\\s+${user?.uid}\\s+${user?.uid}\\s`, "m"));
    expect(status).toMatch(/^Groups:\s*$/m);
    // CAP_NET_BIND_SERVICE is number 10 (capabilities(7)).
    for (const set of ["Prm", "Eff", "Bnd", "Amb"]) expect(status).toMatch(new RegExp(`^Cap${set}:\\s+0{13}400$`, "m"));
    expect(await host.tryPort("tcp", "127.0.0.1", 987)).toBeUndefined();
  });

  test.runIf(range)("has a user of its own, no other group, no capability, and sockets for itself alone", async () => {
    const artifact = join(folder, "artifact.raw");
    await host.run("truncate", ["-s", "1M", artifact]);
    const { user, vmPath } = await folders.create(instanceId);
    const disk = await createOverlay(host, {
      name: "root",
      path: join(vmPath, "root.qcow2"),
      backingPath: artifact,
      sizeMib: 16,
      user,
    });
    const handle = await make(kit, { disks: [disk] });
    await newDriver().start(handle, signal());
    const { hypervisor } = await readRun();
    const status = await readFile(`/proc/${hypervisor?.pid}/status`, "utf8");
    expect(status).toMatch(new RegExp(`^Uid:\\s+${user?.uid}\\s+${user?.uid}\\s+${user?.uid}\\s`, "m"));
    expect(status).toMatch(/^Groups:\s*$/m);
    expect(status).toMatch(/^CapEff:\s+0+$/m);
    expect(status).toMatch(/^Seccomp:\s+2$/m);
    expect((await stat(vmPath)).mode & 0o777).toBe(0o700);
    expect((await stat(runRecord())).uid).toBe(0);
    // Somebody else cannot even see the socket.
    await expect(host.run("test", ["-e", join(vmPath, "qmp.sock")], { uid: 65534, gid: 65534 })).rejects.toThrow();
  });

  test("is told apart from another process with its pid, and from one before the node's restart", async () => {
    const handle = await make(kit);
    await newDriver().start(handle, signal());
    const run = await readRun();
    const bystander = await host.detach("sleep", ["60"], { cwd: "/" });
    await newDriver().powerOff(handle);
    const reused = { ...run, helpers: [], hypervisor: { ...bystander, startTicks: "1" } };
    await writeFile(runRecord(), JSON.stringify(reused));
    expect(await newDriver().inspect(handle)).toMatchObject({ exists: true, power: "stopped" });
    const before = { ...reused, bootId: "another", hypervisor: { ...bystander, bootId: "another" } };
    await writeFile(runRecord(), JSON.stringify(before));
    const observed = await newDriver().inspect(handle);
    expect(observed).toMatchObject({ exists: true, power: "stopped", reason: "the node was restarted" });
    await newDriver().destroy(handle);
    expect(await host.isAlive(bystander)).toBe(true);
    await host.signal(bystander, "SIGKILL");
  });
});

test("a QEMU that does not start leaves its own words and nothing else", async () => {
  const kit = { kernelPath: "/nowhere/vmlinuz", initrdPath: "/nowhere/initrd", buildId: "none" };
  const handle = await make(kit);
  const started = newDriver().start(handle, signal());
  await expect(started).rejects.toMatchObject({
    code: "host_program_failed",
    message: expect.stringContaining("/nowhere/vmlinuz"),
  });
  expect(await newDriver().inspect(handle)).toMatchObject({ exists: true, power: "stopped" });
  const left = await host.processes((args) => args.some((arg) => arg.includes(instancesDir)));
  expect(left).toEqual([]);
});

test("one whose run cannot be written down is not started: nothing runs, and no descriptor stays open", async () => {
  const handle = await make({ kernelPath: "/k", initrdPath: "/i", buildId: "none" });
  const [memory, state] = [join(folder, "ram"), join(folder, "state")];
  for (const path of [memory, state]) await writeFile(path, "");
  const openPaths = async () =>
    Promise.all((await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")));
  const opened: string[] = [memory, state];
  const keepers: ProcessIdentity[] = [];
  const fullHost: Host = {
    ...host,
    async pipes(count) {
      const pipes = await host.pipes(count);
      for (const fd of pipes.flatMap(({ readFd, writeFd }) => [readFd, writeFd]))
        opened.push(await readlink(`/proc/self/fd/${fd}`));
      return pipes;
    },
    files: {
      ...host.files,
      async writeAtomic(path, content, options) {
        const { helpers = [] } = path === runRecord() ? (JSON.parse(String(content)) as { helpers: [] }) : {};
        keepers.push(...helpers);
        if (helpers.length > 0) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
        await host.files.writeAtomic(path, content, options);
      },
    },
  };
  const machine = new Machine({ host: fullHost, owner, isOurs, paths: machinePaths(instancesDir, instanceId) });
  const started = machine.start({
    qemu: "qemu-system-x86_64",
    accelerator: { kind: "tcg", gid: null },
    memory: async () => ({
      ramFd: await host.files.openDescriptor(memory),
      stateFd: await host.files.openDescriptor(state),
    }),
    signal: signal(),
  });
  await expect(started).rejects.toThrow(/no space left/);
  expect(keepers).toHaveLength(1);
  for (const keeper of keepers) expect(await host.isAlive(keeper)).toBe(false);
  expect((await openPaths()).filter((path) => opened.includes(path))).toEqual([]);
  expect(await newDriver().inspect(handle)).toMatchObject({ exists: true, power: "stopped" });
});

test("output without end stays within its bounds, and its last lines are kept", async () => {
  const flood =
    "i=0; while [ $i -lt 4 ]; do i=$((i+1)); head -c 3000000 /dev/zero | tr '\\0' x; echo; say \"wrote $i\"; done; echo done; say done; off";
  const kit = await tinyGuest(host, folder, flood);
  const handle = await make(kit);
  await newDriver().start(handle, signal());
  const { hypervisor, helpers } = await readRun();
  for (const process of [hypervisor, ...helpers]) if (process) await host.waitForExit(process, signal());
  const { stdout } = await host.run("du", ["-sk", join(instancesDir, instanceId, "vm/log")]);
  const keptKib = Number.parseInt(stdout, 10);
  expect(keptKib).toBeGreaterThan(4 * 1024);
  expect(keptKib).toBeLessThan(12 * 1024);
  const log = newDriver().readLog?.(handle, { tail: 50, follow: false, timestamps: false, signal: signal() });
  expect((await text(log as NodeJS.ReadableStream)).split("\n")).toContain("done");
  expect(await newDriver().readControlLog?.(handle)).toContain("done");
});

test("a link that a guest's user puts in place of its log is not followed", async () => {
  const kit = { kernelPath: "/k", initrdPath: "/i", buildId: "none" };
  const handle = await make(kit);
  const log = join(instancesDir, instanceId, "vm/log/console");
  await host.run("ln", ["-s", "/etc/passwd", join(log, "current")]);
  const read = newDriver().readLog?.(handle, { follow: false, timestamps: false, signal: signal() });
  await expect(text(read as NodeJS.ReadableStream)).rejects.toThrow(/ELOOP|not a plain file/);
  await host.files.remove(log);
  await host.run("ln", ["-s", "/etc", log]);
  await host.files.remove(join(log, "nothing"));
  const control = newDriver().readLog?.(handle, { follow: false, timestamps: false, signal: signal() });
  expect(await text(control as NodeJS.ReadableStream)).toBe("");
});

test("the accelerator is found by a guest's first word, kept, and found again for another kit", async () => {
  const { user } = await folders.create(instanceId);
  const speaking = await tinyGuest(host, folder, "say hello\noff\n");
  const options = {
    host,
    installationId,
    isOurs,
    user,
    qemu: "qemu-system-x86_64",
    scratchDir: join(folder, "p"),
    cachePath: join(folder, "accelerator.json"),
    signal: signal(),
  };
  const timeoutMs = { kvm: 3_000, tcg: 30_000 };
  await mkdir(options.scratchDir, { mode: 0o711 });
  const verdict = await probeAccelerator({ ...options, kit: speaking, timeoutMs });
  expect(["kvm", "tcg"]).toContain(verdict.kind);
  expect(verdict.reason).not.toBe("");
  expect(await probeAccelerator({ ...options, kit: speaking })).toEqual(verdict);
  const mute = { ...speaking, kernelPath: "/nowhere", buildId: "mute" };
  expect(await probeAccelerator({ ...options, kit: mute, timeoutMs })).toMatchObject({
    kind: "none",
    reason: expect.stringContaining("/nowhere"),
  });
  expect(await host.files.list(options.scratchDir)).toEqual([]);
});
