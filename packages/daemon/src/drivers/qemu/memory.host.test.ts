import { once } from "node:events";
import { mkdir, open, readdir, readlink, stat } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { askableGuest, askGuest } from "../../../../../test/support/asking-guest.ts";
import type { MemoryTrialResult } from "../../../../../test/support/memory-trial.ts";
import { asOrdinaryUser } from "../../../../../test/support/ordinary-user.ts";
import { freePort } from "../../../../../test/support/ports.ts";
import type { SaveJob } from "../../../../../test/support/save-and-wait.ts";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import type { KitDescription } from "../../core/descriptions.ts";
import { localHost } from "../../host/local.ts";
import { userNetdev } from "../../network/netdev.ts";
import { InstanceFolders, userRange } from "../../storage/instance-folder.ts";
import { createOverlay } from "../../storage/qcow2.ts";
import type { CreateInputs, Handle, SaveMemoryRequest } from "../driver.ts";
import { readMemoryImage } from "../memory-image.ts";
import { qemuDriver } from "./driver.ts";
import { findMarked } from "./machine.ts";
import { sealMemory, sumMemory } from "./memory-tool.ts";
import { Qmp } from "./qmp.ts";
import { SealedCache } from "./sealed-cache.ts";

const host = localHost();
const saveAndWait = fileURLToPath(import.meta.resolve("../../../../../test/support/save-and-wait.ts"));
const installationId = `memory-${process.pid}`;
const isRoot = process.getuid?.() === 0;
const range = isRoot ? userRange(installationId) : null;
const isOurs = (uid: number) => (range ? uid >= range.first && uid <= range.last : uid === process.getuid?.());
const signal = () => AbortSignal.timeout(100_000);

let folder: string;
let instancesDir: string;
let folders: InstanceFolders;
let kit: KitDescription;
let artifact: string;
let count = 0;
const made: Handle[] = [];

beforeAll(async () => {
  folder = await scratchDirectory("m");
  instancesDir = join(folder, "i");
  await mkdir(instancesDir, { mode: 0o711 });
  folders = new InstanceFolders({ host, root: instancesDir, range });
  kit = await askableGuest(host, folder);
  artifact = join(folder, "artifact.raw");
  await host.files.makeSparse(artifact, 16 * 1024 ** 2, { mode: 0o644 });
});

afterEach(async () => {
  for (const handle of made.splice(0)) await newDriver().destroy(handle);
});

/** A driver as a daemon has it after its start. */
function newDriver() {
  const accelerator = async () => ({ kind: "tcg" as const, reason: "for the test", probedAt: 0 });
  const driver = qemuDriver({ host, location: "n/qemu", installationId, instancesDir, isOurs, accelerator });
  const { saveMemory, growDisk, openConnections, publish } = driver;
  if (!saveMemory || !growDisk || !openConnections || !publish) throw new Error("The driver lacks what is tried here");
  return { ...driver, saveMemory, growDisk, openConnections, publish };
}

async function make(change: Partial<CreateInputs> = {}) {
  const owner = { installationId, instanceId: `i-${String(++count).padStart(17, "0")}` };
  const { user, vmPath } = await folders.create(owner.instanceId);
  const path = join(vmPath, "root.qcow2");
  const disk = await createOverlay(host, { name: "root", path, backingPath: artifact, sizeMib: 32, user });
  const nic = { name: "eth0", mac: "52:54:00:00:00:01", network: "user" as const, forwards: [] };
  const inputs: CreateInputs = {
    ...{ owner, name: "m", cpus: 1, memoryMib: 128, kit, user, launcher: [] },
    disks: [disk],
    nics: [{ ...nic, netdev: userNetdev([], []) }],
    ...change,
  };
  const handle = await newDriver().create(inputs);
  made.push(handle);
  return { owner, inputs, handle, user, vmPath };
}

const imageFolder = () => join(folder, `memory-${++count}`);
const ask = (handle: Handle, command: string) => askGuest(newDriver(), handle, command);
const save = (handle: Handle, request: Partial<SaveMemoryRequest> & Pick<SaveMemoryRequest, "folder">) =>
  newDriver().saveMemory(
    handle,
    { use: "shared", switches: [], afterwards: "resume", beforePause: async () => {}, ...request },
    signal(),
  );
const marked = async (instanceId: string) =>
  (await findMarked(host, isOurs)).filter(({ owner }) => owner.instanceId === instanceId);

/** A save that has come to where its guest is asked to hold, and waits there. */
async function waitingSave(handle: Handle, image = imageFolder()) {
  const [reached, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const saved = save(handle, {
    folder: image,
    beforePause: () => {
      reached.resolve();
      return release.promise;
    },
  });
  const outcome = saved.then(
    () => "saved",
    () => "failed",
  );
  await Promise.race([reached.promise, saved]);
  return { image, release: release.resolve, outcome };
}

/** A daemon that is killed while it saves, right before the vCPUs would have been stopped. */
async function killedSave(instanceId: string): Promise<void> {
  const job: SaveJob = { installationId, instancesDir, instanceId, folder: imageFolder() };
  const daemon = host.start(process.execPath, [saveAndWait, JSON.stringify(job)]);
  const said = await Promise.race([once(daemon.stdout, "data"), daemon.done.then(({ stderr }) => [stderr])]);
  expect(String(said[0])).toContain("asked to hold");
  process.kill(daemon.pid, "SIGKILL");
  await expect(daemon.done).rejects.toThrow("SIGKILL");
}

describe("a machine that is saved", () => {
  test("can be looked at meanwhile; its sibling is never taken for it, and ends with it", async () => {
    const { owner, handle } = await make();
    await newDriver().start(handle, signal());
    await ask(handle, "true");
    const { release, outcome } = await waitingSave(handle);
    expect((await marked(owner.instanceId)).map(({ isSibling }) => isSibling).sort()).toEqual([false, true]);
    expect(await newDriver().inspect(handle)).toMatchObject({ power: "running" });
    expect(await newDriver().find(owner)).toEqual(handle);
    expect(await newDriver().list(installationId)).toEqual([{ owner, handle }]);
    expect(await ask(handle, "echo still here")).toBe("still here");
    await newDriver().powerOff(handle);
    release();
    expect(await outcome).toBe("failed");
    expect(await marked(owner.instanceId)).toEqual([]);
    expect(await newDriver().inspect(handle)).toMatchObject({ exists: true, power: "stopped" });
  });

  test("is saved by the next daemon when the one before was killed meanwhile, and nothing is left of that", async () => {
    const { owner, handle, vmPath } = await make();
    await newDriver().start(handle, signal());
    await ask(handle, "true");
    await killedSave(owner.instanceId);
    const sibling = (await marked(owner.instanceId)).find(({ isSibling }) => isSibling)?.process;
    expect(sibling && (await host.isAlive(sibling))).toBe(true);
    expect(await newDriver().inspect(handle)).toMatchObject({ power: "running" });
    const image = imageFolder();
    await save(handle, { folder: image });
    expect(sibling && (await host.isAlive(sibling))).toBe(false);
    expect(await readMemoryImage(host.files, image)).toMatchObject({ cpus: 1, memoryMib: 128, disks: 1 });
    expect((await marked(owner.instanceId)).map(({ isSibling }) => isSibling)).toEqual([false]);
    expect((await readdir(vmPath)).filter((name) => /sib|hop/.test(name))).toEqual([]);
    expect(await ask(handle, "echo and well")).toBe("and well");
    await killedSave(owner.instanceId);
    await newDriver().destroy(handle);
    expect(await marked(owner.instanceId)).toEqual([]);
  });

  test("runs on when the daemon was killed while its vCPUs stood still", async () => {
    const { owner, handle, vmPath } = await make();
    await newDriver().start(handle, signal());
    await ask(handle, "true");
    await killedSave(owner.instanceId);
    // What the daemon does next, and then nothing more.
    const qmp = await Qmp.connect(host, join(vmPath, "qmp.sock"), signal());
    await qmp.execute("migrate-set-parameters", { "downtime-limit": 2_000_000 });
    await qmp.until(() => qmp.events("STOP").at(0), signal());
    qmp.close();
    expect(await newDriver().inspect(handle)).toMatchObject({ power: "paused" });
    await newDriver().start(handle, signal());
    expect(await newDriver().inspect(handle)).toMatchObject({ power: "running" });
    expect(await ask(handle, "echo on")).toBe("on");
    await save(handle, { folder: imageFolder() });
    expect(await ask(handle, "echo and on")).toBe("and on");
  });

  test.runIf(isRoot)("runs on when the disk is full, and nothing is left of the image", async () => {
    const small = join(folder, "small");
    await mkdir(small);
    await host.run("mount", ["-t", "tmpfs", "-o", "size=12m", "tmpfs", small]);
    onTestFinished(async () => void (await host.run("umount", [small])));
    const { owner, handle } = await make();
    await newDriver().start(handle, signal());
    const boot = await ask(handle, "cat /proc/sys/kernel/random/boot_id");
    for (const afterwards of ["resume", "off"] as const) {
      const saved = save(handle, { folder: join(small, "image"), afterwards });
      await expect(saved).rejects.toMatchObject({ code: "disk_full" });
      expect(await readdir(small)).toEqual([]);
      expect((await marked(owner.instanceId)).map(({ isSibling }) => isSibling)).toEqual([false]);
      expect(await newDriver().inspect(handle)).toMatchObject({ power: "running" });
      expect(await ask(handle, "cat /proc/sys/kernel/random/boot_id")).toBe(boot);
    }
  });

  test("has another generation each time its power comes on, also from memory", async () => {
    const generation = (handle: Handle) => ask(handle, "cat /sys/block/vda/serial");
    const { handle } = await make();
    await newDriver().start(handle, signal());
    const first = await generation(handle);
    expect(first).toMatch(/^[0-9a-f]{20}$/);
    const image = imageFolder();
    await save(handle, { folder: image, use: "own" });
    expect(await generation(handle)).toBe(first);
    await newDriver().powerOff(handle);
    await newDriver().start(handle, signal(), { memory: { folder: image, use: "own" }, paused: true });
    await newDriver().start(handle, signal());
    const second = await generation(handle);
    expect(second).toMatch(/^[0-9a-f]{20}$/);
    expect(second).not.toBe(first);
    await newDriver().start(handle, signal());
    expect(await generation(handle)).toBe(second);
  });

  test("keeps what its guest wrote last, and a guest that goes on sees the size its disk has now", async () => {
    const { handle } = await make();
    await newDriver().start(handle, signal());
    await ask(handle, "seq 1 200000 > /tmp-file; sync");
    const sum = await ask(handle, "md5sum < /tmp-file");
    const image = imageFolder();
    await save(handle, { folder: image });
    await newDriver().growDisk(handle, "root", 48);
    expect(await ask(handle, "cat /sys/block/vda/size")).toBe(String(48 * 2048));
    const { handle: copy, inputs } = await make();
    const [{ path } = { path: "" }] = inputs.disks;
    await host.run("qemu-img", ["resize", "-q", "-f", "qcow2", path, "64M"], { ...inputs.user });
    await newDriver().start(copy, signal(), { memory: { folder: image, use: "shared" } });
    expect(await ask(copy, "md5sum < /tmp-file")).toBe(sum);
    expect(await ask(copy, "cat /sys/block/vda/size")).toBe(String(64 * 2048));
  });
});

describe("memory that many go on from", () => {
  let image: string;

  beforeAll(async () => {
    const { handle } = await make();
    made.pop();
    await newDriver().start(handle, signal());
    await ask(handle, "true");
    image = imageFolder();
    await save(handle, { folder: image, afterwards: "off" });
    await newDriver().destroy(handle);
  });

  const ram = () => join(image, "ram");
  const clone = async (driver: ReturnType<typeof newDriver>) => {
    const { handle, owner } = await make();
    await driver.start(handle, signal(), { memory: { folder: image, use: "shared" } });
    const [running] = await marked(owner.instanceId);
    if (!running) throw new Error("The clone does not run");
    return { handle, pid: running.process.pid };
  };

  test.runIf(isRoot)("belongs to nobody but the daemon; memory of a machine's own to its user", async () => {
    const modeOf = async (path: string) => {
      const { mode, uid } = await stat(path);
      return [(mode & 0o777).toString(8), uid];
    };
    expect(await modeOf(ram())).toEqual(["400", 0]);
    expect(await modeOf(join(image, "state"))).toEqual(["400", 0]);
    expect(await modeOf(image)).toEqual(["700", 0]);
    const { handle, user } = await make();
    await newDriver().start(handle, signal());
    const own = imageFolder();
    await save(handle, { folder: own, use: "own" });
    expect(await modeOf(join(own, "ram"))).toEqual(["600", user?.uid]);
    expect(await modeOf(own)).toEqual(["700", 0]);
  });

  test("is in one place for all of them, and none of them can write to it; what is not sealed they could", async () => {
    const driver = newDriver();
    const clones = [await clone(driver), await clone(driver)];
    const inodes = new Set<string>();
    for (const { pid } of clones) {
      const fds = await readdir(`/proc/${pid}/fd`);
      const links = await Promise.all(fds.map(async (fd) => [fd, await readlink(`/proc/${pid}/fd/${fd}`)] as const));
      const memory = links.filter(([, link]) => link.includes("memfd:berth-memory"));
      expect(memory.length).toBeGreaterThan(0);
      for (const [fd] of memory) {
        const path = `/proc/${pid}/fd/${fd}`;
        inodes.add(String((await stat(path)).ino));
        expect(await mayWrite(path)).toBe("EPERM");
      }
    }
    expect(inodes.size).toBe(1);
    expect(await mayWrite(await unsealed())).toBe("written");
    // Each goes its own way from there.
    const [first, second] = clones;
    await ask(first?.handle as Handle, "echo first > /mine");
    expect(await ask(second?.handle as Handle, "cat /mine 2>/dev/null || echo none")).toBe("none");
  });

  test("is checked as it is sealed, and sums the same however sparse the file is", async () => {
    const sum = await sumMemory(host, kit, ram(), signal());
    const copy = join(folder, `copy-${++count}`);
    await host.run("cp", ["--sparse=never", ram(), copy]);
    expect(await sumMemory(host, kit, copy, signal())).toBe(sum);
    const sealed = await sealMemory(host, kit, ram(), signal());
    expect(sealed.checksum).toBe(sum);
    await host.files.closeDescriptor(sealed.fd);
    await host.files.chmod(copy, 0o600);
    const file = await open(copy, "r+");
    const last = (await file.stat()).size - 1;
    await file.write(Buffer.from([1]), 0, 1, last);
    await file.close();
    expect(await sumMemory(host, kit, copy, signal())).not.toBe(sum);
    await host.files.remove(copy);
  });

  test("is kept within bounds, and let go of when its folder is gone", async () => {
    const record = await readMemoryImage(host.files, image);
    if (!record) throw new Error("The image is not there");
    const cache = new SealedCache(host, record.ram.bytes);
    const taken: number[] = [];
    const openIt = async (from: string) => void taken.push(await cache.open(from, record, kit, signal()));
    const links = await Promise.all(
      [0, 1].map(async () => {
        const path = imageFolder();
        await host.run("cp", ["-r", "--sparse=always", image, path]);
        return path;
      }),
    );
    const [one = "", two = ""] = links;
    await Promise.all([openIt(one), openIt(one), openIt(two)]);
    expect(taken).toHaveLength(3);
    expect(cache.bytes).toBe(record.ram.bytes);
    for (const path of links) await host.files.remove(path);
    await cache.sweep();
    expect(cache.bytes).toBe(0);
    await expect(
      cache.open(one, { ...record, ram: { ...record.ram, checksum: "words64:0" } }, kit, signal()),
    ).rejects.toThrow();
    for (const fd of taken) await host.files.closeDescriptor(fd);
  });

  async function unsealed(): Promise<string> {
    const path = join(folder, `unsealed-${++count}`);
    await host.files.makeSparse(path, 4096, { mode: 0o666 });
    return path;
  }
});

/** What comes of writing a byte there as a user that a hypervisor may run as. */
async function mayWrite(path: string): Promise<string> {
  const file = await open(path, "r+");
  try {
    await file.write(Buffer.from([1]), 0, 1, 0);
    return "written";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "";
  } finally {
    await file.close();
  }
}

test("published ports change while it runs, and connections to them are counted, not the guest's own", async () => {
  const [first, second] = [await freePort(), await freePort()];
  const forward = (hostPort: number) => ({
    ...{ hostAddress: "127.0.0.1", guestPort: 80, protocol: "tcp" as const },
    hostPort,
  });
  const { handle } = await make();
  await newDriver().start(handle, signal());
  const listens = "cat /proc/net/tcp /proc/net/tcp6 2> /dev/null | grep -q ':0050 .* 0A '";
  await ask(handle, `(nc -ll -p 80 -e cat < /dev/null > /dev/null 2>&1 &); until ${listens}; do :; done`);
  await newDriver().publish(handle, [forward(first)]);
  const talk = async (port: number) => {
    const socket = connect(port, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.write("hello\n");
    const [answer] = await once(socket, "data", { signal: signal() });
    return { socket, answer: String(answer) };
  };
  const { socket, answer } = await talk(first);
  expect(answer).toBe("hello\n");
  expect(await newDriver().openConnections(handle)).toBe(1);
  await newDriver().publish(handle, [forward(first), forward(second)]);
  const other = await talk(second);
  expect(await newDriver().openConnections(handle)).toBe(2);
  await newDriver().publish(handle, [forward(second)]);
  // A connection outlives its port.
  socket.write("again\n");
  expect(String((await once(socket, "data", { signal: signal() }))[0])).toBe("again\n");
  expect(await host.tryPort("tcp", "127.0.0.1", first)).toBe(first);
  for (const each of [socket, other.socket]) each.end();
  await expect.poll(() => newDriver().openConnections(handle)).toBe(0);
});

test.runIf(isRoot)("a daemon that is an ordinary user does it all in namespaces, and its ports are fixed", async () => {
  const mine = join(await scratchDirectory("ord"), "d");
  const { command } = asOrdinaryUser("test/support/memory-trial.ts", mine);
  const [program = "", ...args] = [...command, mine];
  const { stdout } = await host.run(program, args, { timeoutMs: 110_000 });
  const { boots, ...rest }: MemoryTrialResult = JSON.parse(stdout);
  expect(boots.parent).toMatch(/^[0-9a-f-]{36}$/);
  expect(boots).toEqual({ parent: boots.parent, shared: boots.parent, own: boots.parent });
  // The sibling reads what a guest may have made: it has no way to the host.
  expect(rest).toEqual({ siblingInterfaces: ["lo"], publish: "unsupported_by_driver", openConnections: 0 });
});
