import { once } from "node:events";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import ssh2 from "ssh2";
import { describe, expect, test } from "vitest";
import { eventually } from "../../../../../test/support/eventually.ts";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { createKeys } from "../../guest/keys.ts";
import { localFiles } from "../../host/files.ts";
import type { CreateInputs, Driver, Handle, SaveMemoryRequest } from "../driver.ts";
import { type FakeDriverOptions, fakeDriver } from "./driver.ts";
import { knobNames } from "./knobs.ts";

const owner = { installationId: "b-1", instanceId: "i-00000000000000001" };
const signal = AbortSignal.timeout(60_000);

function inputs(more: Omit<Partial<CreateInputs>, "labels"> & { labels?: Record<string, string> } = {}): CreateInputs {
  return {
    owner,
    name: "web",
    cpus: 1,
    memoryMib: 64,
    disks: [],
    nics: [],
    kit: null,
    user: null,
    launcher: [],
    ...more,
  };
}

async function makeDriver(options: Partial<FakeDriverOptions> = {}): Promise<Driver> {
  const world = options.world ?? (await scratchDirectory("fake-world"));
  return fakeDriver({ host: { files: localFiles }, world, location: "n/fake", ...options });
}

const keys = createKeys();

function configure(argv: readonly string[], more: object = {}): string {
  const { hostKey, clientPublicKey } = keys;
  const channel = { hostKey, clientPublicKey };
  return `${JSON.stringify({ command: "configure", hostname: "web", seed: "", channel, interfaces: [], watchPorts: [80], process: { argv, env: ["A=b"], user: "", workingDir: "" }, ...more })}\n`;
}

/** Reads facts until the one that is named, or the end. */
async function readFacts(port: Duplex, last: string): Promise<string[]> {
  const seen: string[] = [];
  let rest = "";
  for await (const chunk of port.iterator({ destroyOnReturn: false })) {
    rest += chunk;
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines.filter(Boolean)) seen.push(JSON.parse(line).fact);
    if (seen.includes(last)) break;
  }
  return seen;
}

async function running(driver: Driver, argv: readonly string[]) {
  const handle = await driver.create(inputs());
  await driver.start(handle, signal);
  const control = await driver.openPort?.(handle, "control", signal);
  if (!control) throw new Error("no control port");
  control.write(configure(argv));
  return { handle, control };
}

describe("a fake machine", () => {
  test("lives in its world's folder: another driver on the same folder goes on with it", async () => {
    const world = await scratchDirectory("fake-world");
    const first = await makeDriver({ world });
    const handle = await first.create(inputs());
    await first.start(handle, signal);
    const second = await makeDriver({ world });
    expect(await second.find(owner)).toEqual(handle);
    expect(await second.inspect(handle)).toMatchObject({ exists: true, power: "running" });
    await second.destroy(handle);
    expect(await first.inspect(handle)).toMatchObject({ exists: false });
    expect(await first.list("b-1")).toEqual([]);
  });

  test("is configured, becomes ready and stops as the guest protocol tells it", async () => {
    const driver = await makeDriver();
    const { handle, control } = await running(driver, ["/usr/sbin/nginx"]);
    expect(await readFacts(control, "ready")).toEqual(["started", "listening", "ready"]);
    control.write('{"command":"hello"}\n');
    expect(await readFacts(control, "hello")).toEqual(["hello"]);
    control.write('{"command":"stop","signal":15,"timeoutMs":1000}\n');
    expect(await readFacts(control, "exited")).toEqual(["exited"]);
    await once(control.resume(), "close");
    expect(await driver.inspect(handle)).toMatchObject({ power: "stopped" });
    const kept = (await driver.readControlLog?.(handle))?.map((line) => JSON.parse(line));
    expect(kept?.at(-1)).toMatchObject({ fact: "exited", code: 143, signal: 15 });
  });

  test("shows a program's output in its log and its end as an exit code", async () => {
    const driver = await makeDriver();
    const { handle, control } = await running(driver, ["/bin/echo", "hello", "there"]);
    expect(await readFacts(control, "exited")).toEqual(["started", "exited"]);
    const log = driver.readLog?.(handle, { follow: false, timestamps: false, signal });
    expect(await text(log as NodeJS.ReadableStream)).toBe("hello there\n");
  });

  test("echoes on its console", async () => {
    const driver = await makeDriver();
    const { handle } = await running(driver, ["sleep"]);
    const console = await driver.openPort?.(handle, "console", signal);
    console?.write("hi\n");
    expect(String((await once(console as Duplex, "data"))[0])).toBe("hi\n");
  });

  test("runs its canned programs over the channel, with the keys it was given", async () => {
    const driver = await makeDriver();
    const { handle, control } = await running(driver, ["sleep"]);
    await readFacts(control, "ready");
    const ssh = await connect(driver, handle);
    expect(await exec(ssh, { action: "exec", argv: ["echo", "a", "b"] })).toEqual({ code: 0, output: "a b\n" });
    expect(await exec(ssh, { action: "exec", argv: ["false"] })).toEqual({ code: 1, output: "" });
    expect(await exec(ssh, { action: "exec", argv: ["env"], env: ["C=d"] })).toEqual({ code: 0, output: "A=b\nC=d\n" });
    expect(await exec(ssh, { action: "exec", argv: ["cat"] }, "abc")).toEqual({ code: 0, output: "abc" });
    expect(await exec(ssh, { action: "exec", argv: ["nothing"] })).toMatchObject({ code: 127 });
    ssh.end();
  });

  test("refuses another key on the channel", async () => {
    const driver = await makeDriver();
    const { handle, control } = await running(driver, ["sleep"]);
    await readFacts(control, "ready");
    await expect(connect(driver, handle, createKeys().clientKey)).rejects.toThrow(/authentication/);
  });
});

async function connect(
  driver: Driver,
  handle: { version: number },
  key: string = keys.clientKey,
): Promise<ssh2.Client> {
  const sock = await driver.openPort?.(handle, "channel", signal);
  if (!sock) throw new Error("no channel");
  const line = `BERTH-CHANNEL:${"0a".repeat(16)}\n`;
  sock.write(line);
  let heard = "";
  for await (const chunk of sock.iterator({ destroyOnReturn: false })) {
    heard += chunk.toString("latin1");
    const end = heard.indexOf(line);
    if (end < 0) continue;
    sock.unshift(Buffer.from(heard.slice(end + line.length), "latin1"));
    break;
  }
  const client = new ssh2.Client();
  client.connect({ sock: sock as never, username: "root", privateKey: key });
  await once(client, "ready");
  return client;
}

function exec(client: ssh2.Client, request: object, input = ""): Promise<{ code: number; output: string }> {
  return new Promise((resolve, reject) => {
    client.exec(JSON.stringify(request), (error, channel) => {
      if (error) return reject(error);
      let output = "";
      channel.on("data", (chunk: Buffer) => {
        output += chunk;
      });
      channel.stderr.resume();
      channel.on("close", (code: number) => resolve({ code, output }));
      channel.end(input);
    });
  });
}

describe("knobs", () => {
  test.each([
    ["start-error", "port_taken", "port_taken"],
    ["create-error", "not_enough_resources", "not_enough_resources"],
  ])("%s=%s", async (knob, value, code) => {
    const driver = await makeDriver();
    const attempt = async () =>
      driver.start(await driver.create(inputs({ labels: { [`berth.fake/${knob}`]: value } })), signal);
    await expect(attempt()).rejects.toMatchObject({ code });
  });

  test("an error with a count passes, also for the next driver", async () => {
    const world = await scratchDirectory("fake-world");
    const knobs = { "start-error": "host_program_failed*2" };
    const driver = await makeDriver({ world, knobs });
    const handle = await driver.create(inputs());
    await expect(driver.start(handle, signal)).rejects.toMatchObject({ transient: true });
    await expect((await makeDriver({ world, knobs })).start(handle, signal)).rejects.toMatchObject({ transient: true });
    await driver.start(handle, signal);
    expect(await driver.inspect(handle)).toMatchObject({ power: "running" });
  });

  test("start-block can be cancelled", async () => {
    const driver = await makeDriver({ knobs: { "start-block": "forever" } });
    const handle = await driver.create(inputs());
    await expect(driver.start(handle, AbortSignal.abort())).rejects.toThrow();
    expect(await driver.inspect(handle)).toMatchObject({ power: "stopped" });
  });

  test("lose-handle makes the machine that only its owner mark finds", async () => {
    const driver = await makeDriver({ knobs: { "lose-handle": "1" } });
    await expect(driver.create(inputs())).rejects.toMatchObject({ transient: true });
    const found = await driver.find(owner);
    expect(await driver.create(inputs())).toEqual(found);
  });

  test("power-flaps and crash-after", async () => {
    const driver = await makeDriver({ knobs: { "power-flaps": "1" } });
    const handle = await driver.create(inputs());
    await driver.start(handle, signal);
    expect(await driver.inspect(handle)).toMatchObject({ power: "stopped", exists: true });
    expect(await driver.inspect(handle)).toMatchObject({ power: "running" });
    const crashing = await makeDriver({ knobs: { "crash-after": "0" } });
    const second = await crashing.create(inputs());
    await crashing.start(second, signal);
    expect(await crashing.inspect(second)).toMatchObject({ power: "stopped", reason: /lost its power/ as never });
  });

  test("fail-after", async () => {
    const driver = await makeDriver({ knobs: { "fail-after": "1" } });
    const handle = await driver.create(inputs());
    await expect(driver.inspect(handle)).rejects.toMatchObject({ code: "host_program_failed" });
  });

  test("ready-after, exit-code and fail by the environment", async () => {
    const cases = [
      [["BERTH_FAKE_READY_AFTER=never"], "waiting", ["started", "waiting"]],
      [["BERTH_FAKE_EXIT_CODE=3"], "exited", ["started", "exited"]],
      [["BERTH_FAKE_FAIL=no such program"], "failed", ["failed"]],
    ] as const;
    for (const [env, last, facts] of cases) {
      const driver = await makeDriver();
      const handle = await driver.create(inputs());
      await driver.start(handle, signal);
      const control = (await driver.openPort?.(handle, "control", signal)) as Duplex;
      control.write(configure(["sleep"], { process: { argv: ["sleep"], env, user: "", workingDir: "" } }));
      expect(await readFacts(control, last)).toEqual(facts);
    }
  });

  test("a port published twice is taken", async () => {
    const world = await scratchDirectory("fake-world");
    const driver = await makeDriver({ world });
    const forwards = [{ hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" as const }];
    const nics = [{ name: "eth0", mac: "52:54:00:00:00:01", network: "user" as const, forwards, netdev: "user" }];
    await driver.start(await driver.create(inputs({ nics })), signal);
    const other = { ...owner, instanceId: "i-00000000000000002" };
    const handle = await driver.create(inputs({ owner: other, nics }));
    await expect(driver.start(handle, signal)).rejects.toMatchObject({ code: "port_taken" });
  });
});

/** Says something to the guest and reads on until a fact. */
async function ask(port: Duplex, command: object, fact: string): Promise<Record<string, unknown>> {
  port.write(`\n${JSON.stringify(command)}\n`);
  let heard = "";
  for await (const chunk of port.iterator({ destroyOnReturn: false })) {
    heard += chunk;
    const line = heard.split("\n").find((text) => text.includes(`"fact":"${fact}"`) && text.endsWith("}"));
    if (line) return JSON.parse(line);
  }
  throw new Error(`The guest did not say ${fact}`);
}

describe("saved memory", () => {
  const request = { use: "shared", switches: [], afterwards: "resume", beforePause: async () => {} } as const;

  async function saved(options: Partial<FakeDriverOptions> = {}, more: Partial<SaveMemoryRequest> = {}) {
    const world = await scratchDirectory("fake-world");
    const driver = await makeDriver({ world, ...options });
    const { handle, control } = await running(driver, ["/usr/sbin/nginx"]);
    await readFacts(control, "ready");
    const folder = join(world, "saved");
    const save = () => driver.saveMemory?.(handle, { ...request, folder, ...more }, signal);
    return { world, driver, handle, control, folder, save };
  }

  const clone = async (driver: Driver) =>
    driver.create(inputs({ owner: { ...owner, instanceId: "i-0000000000000000c" } }));
  const controlOf = async (driver: Driver, handle: Handle) =>
    (await driver.openPort?.(handle, "control", signal)) as Duplex;

  test("a guest that holds goes on in its own generation by itself, and in another's when it is told who it is", async () => {
    const { driver, control, folder, save } = await saved({ knobs: { "exit-after": "60000" } });
    await ask(control, { command: "hold" }, "held");
    const { generation } = await ask(control, { command: "hello" }, "hello");
    await save();
    const handle = await clone(driver);
    await driver.start(handle, signal, { memory: { folder, use: "shared" } });
    const copy = await controlOf(driver, handle);
    const before = await ask(copy, { command: "hello" }, "hello");
    expect(before).toMatchObject({ held: true, moved: true, phase: "running", ready: true });
    expect(before.generation).not.toBe(generation);
    const untold = "the guest must first be told who it is";
    expect(await ask(copy, { command: "release" }, "refused")).toMatchObject({ command: "release", reason: untold });
    expect(await ask(copy, { command: "hello" }, "hello")).toMatchObject({ held: true, uptimeMs: before.uptimeMs });
    const { command: _, ...identity } = JSON.parse(configure(["other"]));
    await ask(
      copy,
      { ...identity, command: "identify", origin: { kind: "fork", parent: null, index: 0 } },
      "identified",
    );
    expect(await ask(copy, { command: "hello" }, "hello")).toMatchObject({
      held: false,
      moved: false,
      phase: "running",
    });
    await expect
      .poll(() => ask(control, { command: "hello" }, "hello"), { timeout: 5_000 })
      .toMatchObject({ held: false, generation });
  });

  test("a paused guest reads what it was told when it goes on", async () => {
    const { driver, folder, save } = await saved();
    await save();
    const handle = await clone(driver);
    await driver.start(handle, signal, { memory: { folder, use: "shared" }, paused: true });
    const copy = await controlOf(driver, handle);
    const answer = ask(copy, { command: "hello" }, "hello");
    const first = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 100, "silence"))]);
    expect(first).toBe("silence");
    await driver.start(handle, signal);
    expect(await answer).toMatchObject({ phase: "running" });
  });

  test("another build's is refused; so is any by memory-refused, and what memory-damaged wrote", async () => {
    const { world, driver, folder, save } = await saved();
    await save();
    const handle = await clone(driver);
    const memory = { folder, use: "shared" } as const;
    const unusable = { code: "memory_unusable" };
    const newer = await makeDriver({ world, build: "fake 2" });
    expect(await newer.memoryBuild?.({ kit: null })).not.toBe(await driver.memoryBuild?.({ kit: null }));
    await expect(newer.start(handle, signal, { memory })).rejects.toMatchObject(unusable);
    const refusing = await makeDriver({ world, knobs: { "memory-refused": "true" } });
    await expect(refusing.start(handle, signal, { memory })).rejects.toMatchObject(unusable);
    await driver.start(handle, signal, { memory });
    const spoilt = await saved({ knobs: { "memory-damaged": "true" } });
    await spoilt.save();
    const started = spoilt.driver.start(await clone(spoilt.driver), signal, {
      memory: { folder: spoilt.folder, use: "own" },
    });
    await expect(started).rejects.toMatchObject(unusable);
  });

  test("save-memory-error and save-memory-block leave all as it was", async () => {
    const failing = await saved({ knobs: { "save-memory-error": "disk_full" } });
    await expect(failing.save()).rejects.toMatchObject({ code: "disk_full" });
    expect(await failing.driver.inspect(failing.handle)).toMatchObject({ power: "running" });
    const { driver, handle, folder } = await saved({ knobs: { "save-memory-block": "forever" } });
    const cancelled = driver.saveMemory?.(handle, { ...request, folder }, AbortSignal.abort());
    await expect(cancelled).rejects.toThrow();
    expect(await localFiles.exists(folder)).toBe(false);
  });

  test("lose-memory: disks are switched and the moment has passed; lose-saved: the next call finds it done", async () => {
    const world = await scratchDirectory("fake-world");
    const disks = [{ name: "root", path: join(world, "root"), format: "raw" as const, readOnly: false }];
    const overlayPath = join(world, "overlay");
    for (const path of [disks[0]?.path ?? "", overlayPath]) await localFiles.writeAtomic(path, "");
    const knobs = { "lose-memory": "1", "lose-saved": "1" };
    const driver = await makeDriver({ world, knobs });
    const handle = await driver.create(inputs({ disks }));
    await driver.start(handle, signal);
    const switches = [{ disk: "root", overlayPath }];
    const save = () => driver.saveMemory?.(handle, { ...request, folder: join(world, "saved"), switches }, signal);
    await expect(save()).rejects.toThrow(/lose-memory/);
    expect(await driver.activeDisks?.(handle)).toEqual({ root: overlayPath });
    await expect(save()).rejects.toThrow(/moment/);
    await localFiles.remove(overlayPath);
    await localFiles.writeAtomic(overlayPath, "");
    await expect(save()).rejects.toMatchObject({ transient: true });
    expect(await save()).toMatchObject({ pausedMs: expect.any(Number) });
  });

  test("switch-disks-error, connections and idle-after", async () => {
    const { driver, handle } = await saved({ knobs: { "switch-disks-error": "disk_full", connections: "3" } });
    await expect(driver.switchDisks?.(handle, [], signal)).rejects.toMatchObject({ code: "disk_full" });
    expect(await driver.openConnections?.(handle)).toBe(3);
    const idle = await saved({ knobs: { connections: "3", "idle-after": "1" } });
    await eventually(async () => expect(await idle.driver.openConnections?.(idle.handle)).toBe(0));
  });

  test("only full saves memory", async () => {
    for (const shape of ["cloud", "remote"] as const) {
      const driver = await makeDriver({ shape });
      expect(driver).not.toHaveProperty("saveMemory");
      expect(driver.abilities).toMatchObject({ snapshots: false, templates: false });
    }
  });
});

describe("the shapes", () => {
  test("cloud: its own ids, no way in, one machine for each owner in spite of the lag", async () => {
    const driver = await makeDriver({ shape: "cloud" });
    const [first, second] = await Promise.all([driver.create(inputs()), driver.create(inputs())]);
    expect(first).toEqual(second);
    expect(first.id).toMatch(/^vm-[0-9a-f]{12}$/);
    expect(driver.openPort).toBeUndefined();
    await driver.start(first, signal);
    expect(await driver.inspect(first)).toMatchObject({ power: "running" });
    await driver.powerOff(first);
    expect(await driver.inspect(first)).toMatchObject({ power: "stopped" });
    await driver.destroy(first);
    expect(await driver.inspect(first)).toMatchObject({ exists: false });
    expect(await driver.find(owner)).toBeUndefined();
  });

  test("full needs its disks, remote makes them elsewhere", async () => {
    const disks = [{ name: "root", path: join("/nowhere", "root.qcow2"), format: "qcow2" as const, readOnly: false }];
    await expect((await makeDriver()).create(inputs({ disks }))).rejects.toMatchObject({ code: "host_program_failed" });
    expect(await (await makeDriver({ shape: "remote" })).create(inputs({ disks }))).toMatchObject({ version: 1 });
  });
});

test("docs/adding-a-driver.md has every knob", async () => {
  const document =
    (await localFiles.readText(join(import.meta.dirname, "../../../../../docs/adding-a-driver.md"))) ?? "";
  expect(knobNames.filter((name) => !document.includes(`\`${name}\``))).toEqual([]);
});
