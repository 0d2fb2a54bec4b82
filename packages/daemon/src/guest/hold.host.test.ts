import { join } from "node:path";
import { ExecRequest } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../../../../test/support/eventually.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { type GuestConfig, type GuestOrigin, machineIdOf } from "./config.ts";
import type { GuestFact } from "./facts.ts";
import { GuestMachine, type Memory, makeGuestDisk, realKit, soon } from "./testing/guest-machine.ts";
import { unprotectedKit } from "./testing/unprotected-kit.ts";

const host = localHost();
const machines: GuestMachine[] = [];
afterAll(() => Promise.all(machines.map((machine) => machine.end())));

/** Never stands still by itself; each step is seen on the console, with random bytes, and on the disk. */
const process = {
  argv: [
    "sh",
    "-c",
    "httpd -p 8080; while :; do i=$((i+1)); echo $i > /step; echo step $i $(od -An -N16 -tx1 /dev/urandom); sleep 0.05; done",
  ],
};
const options = { process, watchPorts: [8080] };
const parent = { id: "i-00000000000000001", name: "web" };

async function makeMachine(): Promise<GuestMachine> {
  const machine = new GuestMachine(await scratchDirectory("h"), machines.length + 1);
  machines.push(machine);
  return machine;
}

/** The random bytes of each step on a machine's console. */
async function stepsOf(machine: GuestMachine): Promise<string[]> {
  return [...(await machine.log("console")).matchAll(/^step \d+ (.+?)\r?$/gm)].map(([, bytes]) => bytes ?? "");
}

/** Waits until that many steps are on the console. */
async function stepped(machine: GuestMachine, count: number): Promise<void> {
  const look = async () => expect((await stepsOf(machine)).length).toBeGreaterThanOrEqual(count);
  await eventually(look);
}

async function bootParent(without?: "reseed" | "holding"): Promise<GuestMachine> {
  const folder = await scratchDirectory("p");
  const kit = without && (await unprotectedKit(host, await realKit(), folder, without));
  const machine = await makeMachine();
  await machine.boot(await makeGuestDisk(folder), { ...options, ...(kit ? { kit } : {}) });
  await machine.waitFor(({ ready }) => ready);
  return machine;
}

/** Lets a machine go on from memory and tells it who it is. */
async function goOn(memory: Memory, origin: GuestOrigin, more: Partial<GuestConfig> = {}): Promise<GuestMachine> {
  const machine = await makeMachine();
  machine.overrides = { hostname: "child", origin, ...more };
  await machine.goOn(memory, 1024, options);
  await machine.waitFor(({ ready }) => ready);
  return machine;
}

/**
 * How often the programs of a machine that goes on from memory step before it was told who it is. The guest looks at what it is two seconds after it
 * began to hold, when it would let its programs go on in its own machine, and then speaks by itself.
 */
async function stepsUntold(memory: Memory): Promise<{ steps: number; said: GuestFact[] }> {
  const machine = await makeMachine();
  await machine.goOn(memory, 1024, { alone: true });
  const said: GuestFact[] = [];
  let hellos = 0;
  await machine.converse((fact, control) => {
    said.push(fact);
    if (fact.fact === "hello" && ++hellos === 1) {
      control.release();
      control.hold();
    }
    return hellos === 2;
  });
  const steps = (await stepsOf(machine)).length;
  await machine.end();
  return { steps, said };
}

describe("a guest that holds", () => {
  let machine: GuestMachine;
  let memory: Memory;

  beforeAll(async () => {
    machine = await bootParent();
    const hooks = `
      mkdir /etc/berth
      cat > /etc/berth/forked <<'END'
#!/bin/sh
before=$(cat /step); sleep 0.3
echo $BERTH_INSTANCE_ID $BERTH_INSTANCE_NAME $BERTH_PARENT_ID $BERTH_PARENT_NAME $BERTH_FORK_INDEX $(id -u) $(hostname) $before $(cat /step) $COLOUR
sleep 1000 &
exit 3
END
      printf '#!/bin/sh\\nexec sleep 1001' > /etc/berth/restored
      chmod 755 /etc/berth/*`;
    await machine.sh(hooks);
    const channel = await machine.hub.channel(machine.id, soon());
    await channel.exec(ExecRequest.parse({ command: ["sh", "-c", "sleep 1002 & exec sleep 1003"] }), soon());
    await machine.sh("setsid sleep 1004 < /dev/null > /dev/null 2>&1 &");
    memory = await machine.copyMemory(await scratchDirectory("mem"));
  });

  it("goes on as before when it is released", async () => {
    const before = (await stepsOf(machine)).length;
    const words = await machine.sh("cat /run/berth/identity.json; ps");
    expect(words).toContain(`{"id":"${parent.id}","name":"web","origin":null}\n`);
    expect(words.match(/sleep 100\d/g)?.sort()).toEqual(["sleep 1002", "sleep 1003", "sleep 1004"]);
    await stepped(machine, before + 1);
    expect(machine.hub.latest(machine.id)).toMatchObject({ held: false, moved: false, ready: true });
  });

  it("releases itself when no host comes back, and says so to a host that comes back late", async () => {
    await machine.hub.hold(machine.id, soon());
    expect(machine.hub.latest(machine.id)).toMatchObject({ held: true });
    await machine.waitFor(({ held }) => !held);
    expect(await machine.sh("echo on")).toBe("on\n");
    await expect(machine.hub.release(machine.id, soon())).rejects.toMatchObject({
      code: "guest_refused",
      message: expect.stringContaining("nothing is held"),
    });
  });

  it("makes no step in another machine until it is told who it is, whatever else it is told; without holding it would", async () => {
    const { steps, said } = await stepsUntold(memory);
    expect(steps).toBe(0);
    expect(said).toEqual([
      expect.objectContaining({
        fact: "hello",
        held: true,
        moved: true,
        generation: expect.stringMatching(/^\w{20}$/),
      }),
      expect.objectContaining({
        fact: "refused",
        command: "release",
        reason: "the guest must first be told who it is",
      }),
      expect.objectContaining({ fact: "refused", command: "hold", reason: "the guest must first be told who it is" }),
      expect.objectContaining({ fact: "hello", held: true, moved: true }),
    ]);
    const unheld = await bootParent("holding");
    const { steps: unheldSteps } = await stepsUntold(await unheld.copyMemory(await scratchDirectory("mem")));
    await unheld.end();
    expect(unheldSteps).toBeGreaterThan(0);
  });

  it("becomes a child: names, addresses, clock; told by its hook while all stand still; without its parent's sessions", async () => {
    const tomorrow = Date.now() + 24 * 3600 * 1000;
    const child = await goOn(memory, { kind: "fork", parent, index: 4 }, { nowMs: tomorrow });
    expect(child.hub.latest(child.id)).toMatchObject({ held: false, moved: false, listening: [8080] });
    const words = await child.sh(
      "date +%s; hostname; cat /etc/hostname /etc/machine-id /run/berth/identity.json; ifconfig eth0; ps",
    );
    expect(Math.abs(Number(words.split("\n")[0]) - tomorrow / 1000)).toBeLessThan(20);
    const origin = { kind: "fork", parent, index: 4 };
    const identity = JSON.stringify({ id: child.id, name: "child", origin });
    expect(words).toContain(`child\nchild\n${machineIdOf(child.id)}\n${identity}\n`);
    expect(words).toContain(`HWaddr ${child.mac}`);
    // The session's programs are gone, with what the hook left; what an earlier session let go of is the image's now.
    expect(words).not.toMatch(/sleep 100[0-3]/);
    expect(words).toContain("sleep 1004");
    const log = await child.log("console");
    expect(log).toMatch(new RegExp(`^${child.id} child ${parent.id} web 4 0 child (\\d+) \\1 blue$`, "m"));
    expect(log).toContain("berth: /etc/berth/forked ended with exit code 3");
    expect(log.indexOf("/etc/berth/forked ended")).toBeLessThan(log.indexOf("step "));
    expect(await child.log("control")).toContain('"hookCode":3');
    await child.end();
  });

  it("is restored in spite of a hook without end", async () => {
    const restored = await goOn(memory, { kind: "restore", parent, index: 0 });
    expect(await restored.log("control")).toContain('"hookCode":137');
    expect(await restored.sh("ps")).not.toContain("sleep 1001");
    await restored.end();
  });

  it("is resumed as it was", async () => {
    const resumed = await goOn(memory, { kind: "resume", parent: null, index: 0 }, { hostname: "web" });
    expect(await resumed.log("control")).toContain('"hookCode":null');
    expect(await resumed.sh("cat /run/berth/identity.json")).toBe(
      `{"id":"${resumed.id}","name":"web","origin":null}\n`,
    );
    await resumed.end();
  });

  it("repeats no random byte in two machines; without the reseed it would", async () => {
    const shared = async (from: Memory) => {
      const pair = await Promise.all([0, 1].map((index) => goOn(from, { kind: "fork", parent, index })));
      await Promise.all(pair.map((one) => stepped(one, 5)));
      // The first may have been drawn before the hold, and only be written after it.
      const [steps, others] = await Promise.all(pair.map(async (one) => (await stepsOf(one)).slice(1)));
      await Promise.all(pair.map((one) => one.end()));
      return steps?.filter((bytes) => others?.includes(bytes)).length;
    };
    expect(await shared(memory)).toBe(0);
    const unseeded = await bootParent("reseed");
    // The kernel reseeds by itself now and then, from the time things take: what is shared ends there.
    let repeated = 0;
    for (let attempt = 0; attempt < 5 && !repeated; attempt++)
      repeated = (await shared(await unseeded.copyMemory(await scratchDirectory("mem")))) ?? 0;
    expect(repeated).toBeGreaterThan(0);
    await unseeded.end();
  });

  it("keeps its disk whole while it is frozen, and says when it was not frozen all the time; unfrozen it is not whole", async () => {
    const folder = await scratchDirectory("disk");
    const copy = join(folder, "copy");
    const isWhole = async () => {
      await host.run("cp", ["--sparse=always", machine.disk, copy]);
      // Without a freeze the journal may have all that the rest lacks: chance decides whether that shows.
      const { stdout } = await host.run("dumpe2fs", ["-h", copy]);
      if (/^Filesystem features:.*\bneeds_recovery\b/m.test(stdout)) return false;
      return host.run("e2fsck", ["-fn", copy]).then(
        () => true,
        () => false,
      );
    };
    expect(await isWhole()).toBe(false);
    await machine.hub.freeze(machine.id, soon());
    expect(await isWhole()).toBe(true);
    await machine.hub.thaw(machine.id, soon());
    const refusal = { code: "guest_refused", message: expect.stringContaining("nothing is frozen") };
    await expect(machine.hub.thaw(machine.id, soon())).rejects.toMatchObject(refusal);
  });

  it("has control groups as in a container, and holds what parts them further", async () => {
    const words = await machine.sh("cat /proc/self/cgroup /sys/fs/cgroup/cgroup.controllers");
    expect(words).toMatch(/^0::\/\n.*\bmemory\b.*\bpids\b/);
    // What a program starts meanwhile begins where that program still is: until none is left there.
    const part = `cd /sys/fs/cgroup; mkdir below
      until echo +memory > cgroup.subtree_control; do
        for pid in $(cat cgroup.procs); do echo $pid > below/cgroup.procs; done
      done 2> /dev/null`;
    await machine.sh(part);
    expect(await machine.sh("cat /proc/self/cgroup; ls /sys/fs/cgroup/below")).toMatch(
      /^0::\/below\n(.*\n)*memory\.max\n/,
    );
    await machine.hub.hold(machine.id, soon());
    const before = (await stepsOf(machine)).length;
    await machine.waitFor(({ held }) => !held);
    expect((await stepsOf(machine)).length - before).toBeLessThan(3);
    await machine.hub.hold(machine.id, soon());
    await machine.hub.release(machine.id, soon());
  });

  it("is not told again who it is while it is in its own machine", async () => {
    machine.hub.close();
    const refused = await machine.converse((fact, control) => {
      if (fact.fact === "hello") control.identify({} as GuestConfig);
      return fact.fact === "refused";
    });
    expect(refused).toMatchObject({ command: "identify", reason: "the guest knows who it is" });
  });
});
