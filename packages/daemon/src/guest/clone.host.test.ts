import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { machineIdOf } from "./config.ts";
import { GuestMachine, type Memory, makeGuestDisk, realKit } from "./testing/guest-machine.ts";
import { unprotectedKit } from "./testing/unprotected-kit.ts";
import { worldOf, worldTeller } from "./testing/world.ts";

/** What docker mounts in a container, and a machine's own devices besides. */
const mounts = [
  / \/ \/ rw,relatime - ext4 /,
  / \/ \/proc rw,nosuid,nodev,noexec,relatime - proc /,
  / \/ \/sys rw,nosuid,nodev,noexec,relatime - sysfs /,
  / \/ \/sys\/fs\/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 /,
  / \/ \/dev rw,nosuid,relatime - devtmpfs /,
  / \/ \/dev\/pts rw,nosuid,noexec,relatime - devpts /,
  / \/ \/dev\/shm rw,nosuid,nodev,noexec,relatime - tmpfs /,
  / \/ \/dev\/mqueue rw,nosuid,nodev,noexec,relatime - mqueue /,
  / \/etc\/hosts rw - /,
  / \/etc\/hostname rw - /,
  / \/etc\/machine-id rw - /,
  / \/run\/resolver\/resolv.conf rw - /,
  / \/run\/berth ro,nosuid,nodev,noexec - /,
];

const hashOf = async (path: string) =>
  createHash("sha256")
    .update(await readFile(path))
    .digest("hex");

describe("machines that go on from the memory of a guest that waits", () => {
  const machines: GuestMachine[] = [];
  let untouched: string;
  let memory: Memory;

  async function makeMachine(number: number): Promise<GuestMachine> {
    const machine = new GuestMachine(await scratchDirectory(`m${number}`), number);
    machines.push(machine);
    return machine;
  }

  beforeAll(async () => {
    const folder = await scratchDirectory("clone");
    const disk = await makeGuestDisk(folder);
    untouched = await hashOf(disk);
    const template = await makeMachine(1);
    await template.boot(disk, { alone: true });
    await template.converse((fact) => fact.fact === "prepared" || (fact.fact === "hello" && fact.phase === "prepared"));
    memory = await template.saveMemory(folder);
    await template.end();
  });
  afterAll(() => Promise.all(machines.map((machine) => machine.end())));

  it("find their disk as it was: a guest that waits has written nothing to it", async () => {
    expect(await hashOf(memory.disk)).toBe(untouched);
  });

  it("are what they are told to be: address, machine-id, clock, a disk that has grown; console and channel work", async () => {
    const machine = await makeMachine(2);
    const process = { argv: ["sh", "-c", "echo began; exec httpd -f -p 8080"] };
    await machine.goOn(memory, 2048, { process, watchPorts: [8080] });
    await machine.waitFor(({ ready }) => ready);
    expect(await machine.log("console")).toContain("began");
    const words = await machine.sh(
      "ifconfig; busybox route -n; cat /etc/machine-id; df -m /; touch /written; date +%s",
    );
    expect(words).toContain("52:54:00:00:00:02");
    // Nothing of the template's card is left, nor of an address made of it.
    expect(words).toContain("fe80::5054:ff:fe00:2/64");
    expect(words).not.toMatch(/52:54:00:00:00:01|fe80::5054:ff:fe00:1\b/);
    expect(words).toMatch(/^(0\.0\.0\.0|default) +10\.0\.2\.2 .*eth0$/m);
    expect(words).toMatch(/inet addr:127\.0\.0\.1|127\.0\.0\.1 +Mask/);
    expect(words).toContain("addr:10.0.2.15");
    expect(words).toContain(machineIdOf(machine.id));
    expect(Number(/ (\d+) +\d+ +\d+ +\d+% \/$/m.exec(words)?.[1])).toBeGreaterThan(1800);
    expect(Math.abs(Number(words.trim().split("\n").pop()) - Date.now() / 1000)).toBeLessThan(10);
    expect(await hashOf(memory.disk)).toBe(untouched);
  });

  it.each([false, true])(
    "give the image's process the world that it finds after a boot (with a terminal: %s)",
    async (tty) => {
      const [booted, cloned] = [await makeMachine(tty ? 4 : 6), await makeMachine(tty ? 5 : 7)];
      const disk = await makeGuestDisk(await scratchDirectory(`booted-${tty}`));
      await Promise.all([
        booted.boot(disk, { process: { ...worldTeller, tty } }),
        cloned.goOn(memory, 1024, { process: { ...worldTeller, tty } }),
      ]);
      const world = await worldOf(cloned);
      expect(world).toEqual(await worldOf(booted));
      expect(world).toEqual(expect.arrayContaining(mounts.map((line) => expect.stringMatching(line))));
      const descriptors = world.filter((line) => line.includes(" -> "));
      expect(descriptors.map((line) => line.replace(/.* (\d -> )/, "$1"))).toEqual(
        tty ? ["0 -> /dev/hvc0", "1 -> /dev/hvc0", "2 -> /dev/hvc0"] : ["1 -> pipe", "2 -> pipe", "0 -> /dev/null"],
      );
      expect(world).toContain(tty ? "/dev/hvc0" : "not a tty");
      expect(world).toContain("0::/");
    },
  );

  it("start the process anew when the one that was prepared has ended", async () => {
    const folder = await scratchDirectory("ended");
    const kit = await unprotectedKit(localHost(), await realKit(), folder, "waiting");
    const machine = await makeMachine(8);
    await machine.boot(await makeGuestDisk(folder), { process: worldTeller, kit });
    expect(await worldOf(machine)).toEqual(expect.arrayContaining(mounts.map((line) => expect.stringMatching(line))));
  });

  it("have nothing to hold, and power off without having been told who they are, their disk as it was", async () => {
    const machine = await makeMachine(3);
    await machine.goOn(memory, 1024, { alone: true });
    const empty = await hashOf(machine.overlay());
    const refused = await machine.converse((fact, control) => {
      if (fact.fact === "hello") control.hold();
      if (fact.fact === "refused") control.stop({ signal: 15, timeoutMs: 1000 });
      return fact.fact === "refused";
    });
    expect(refused).toMatchObject({ command: "hold", reason: "the image's process does not run" });
    await machine.off();
    expect(await hashOf(machine.overlay())).toBe(empty);
  });
});
