import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type { Client, CreateInstanceInput, Instance } from "@berth/api";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { markOf } from "../../packages/daemon/src/drivers/qemu/command-line.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { eventually } from "../support/eventually.ts";
import { type FoundProcess, markProcess, processesOf } from "../support/processes.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { accelerated, auditQemu, readInstallationId, removeRules } from "./audit-qemu.ts";

const long = { wait: 120 } as const;
const name = "web";
const params = { instance: name };

let dataDir: string;
let berthd: Berthd;
const env = { BERTH_LOG_LEVEL: "warn" };

beforeAll(async () => {
  const scratch = await scratchDirectory("out");
  dataDir = join(scratch, "data");
  await using first = await startBerthd({ dataDir, env });
  await buildBusybox(first.client, scratch);
  await accelerated(dataDir);
});

afterAll(() => removeRules(dataDir));

beforeEach(async () => {
  berthd = await startBerthd({ dataDir, env });
});

afterEach(async () => {
  const { client } = berthd;
  for (const { id } of (await client.listInstances({ query: {} })).items)
    await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
  await auditQemu(client, dataDir, berthd.pid);
  await berthd.stop();
});

async function launch(client: Client, asked: Partial<CreateInstanceInput>): Promise<Instance> {
  const body = { image: busyboxImage, name, memoryMib: 128, ...asked };
  const { instance, operation } = await client.createInstance({ query: long, body });
  expect(operation.error).toBeNull();
  return instance;
}

const statusNow = async () => (await berthd.client.getInstance({ params })).status;

async function logNow(): Promise<string> {
  const response = await fetch(`${berthd.url}/api/v1/instances/${name}/logs`, {
    headers: { authorization: `Bearer ${berthd.token}` },
  });
  return response.text();
}

/** The instance's QEMU, by its exact mark; undefined when it does not run. */
function hypervisorOf({ id }: Instance): FoundProcess | undefined {
  const mark = ` -name ${markOf({ installationId: readInstallationId(dataDir), instanceId: id })} `;
  return processesOf(dataDir).find((one) => one.commandLine.startsWith("qemu") && one.commandLine.includes(mark));
}

async function killHypervisor(instance: Instance): Promise<void> {
  const hypervisor = hypervisorOf(instance);
  if (!hypervisor) throw new Error("its QEMU does not run");
  process.kill(hypervisor.pid, "SIGKILL");
}

/** Until nothing but what is given runs in the data folder. */
const allGone = (butPid = 0) =>
  eventually(() => expect(processesOf(dataDir).filter(({ pid }) => pid !== butPid)).toEqual([]));

describe("a guest", () => {
  it("outlives a berthd that is stopped or killed; what it says and its exit code meanwhile are there afterwards", async () => {
    const script = "echo begun; /bin/busybox nc -l -p 80; echo said to nobody; exit 7";
    const instance = await launch(berthd.client, { command: ["/bin/sh", "-c", script], ports: [{ guestPort: 80 }] });
    const { hostPort } = instance.status.ports[0] ?? { hostPort: 0 };
    const before = hypervisorOf(instance);
    await berthd.stop();
    expect(hypervisorOf(instance)).toEqual(before);

    berthd = await startBerthd({ dataDir, env });
    await eventually(async () => expect(await statusNow()).toMatchObject({ phase: "running", ready: true }));
    expect(hypervisorOf(instance)).toEqual(before);

    await berthd.kill();
    expect(hypervisorOf(instance)).toEqual(before);
    // The guest is reached without berthd, and told to go on.
    connect(hostPort, "127.0.0.1")
      .end("go on\n")
      .on("error", () => undefined);
    await allGone();

    berthd = await startBerthd({ dataDir, env });
    await eventually(async () => expect((await statusNow()).phase).toBe("stopped"));
    expect(await statusNow()).toMatchObject({
      exitCode: 7,
      ready: false,
      reason: "its process ended with exit code 7",
    });
    expect((await logNow()).split("\n")).toEqual(["begun", "go on", "said to nobody", ""]);
  });

  it("whose QEMU is killed from outside is stopped, and says why", async () => {
    const instance = await launch(berthd.client, {});
    await killHypervisor(instance);
    await eventually(async () => expect((await statusNow()).phase).toBe("stopped"));
    expect(await statusNow()).toMatchObject({
      ready: false,
      exitCode: null,
      reason: expect.stringContaining("without a word"),
    });
    const { operation } = await berthd.client.startInstance({ params, query: long });
    expect(operation.error).toBeNull();
    expect(await statusNow()).toMatchObject({ phase: "running", ready: true, reason: "" });
  });
});

describe("a living VM is told apart", () => {
  /** Leaves a machine whose QEMU is gone without berthd's knowing, and its record changed. */
  async function leaveDead(change: (run: { bootId: string; hypervisor: object }) => object): Promise<Instance> {
    const instance = await launch(berthd.client, {});
    await berthd.kill();
    await killHypervisor(instance);
    await allGone();
    const path = join(dataDir, "instances", instance.id, "run.json");
    writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, "utf8")))));
    berthd = await startBerthd({ dataDir, env });
    await eventually(async () => expect((await statusNow()).phase).toBe("stopped"));
    return instance;
  }

  let bystander: ChildProcess;
  beforeEach(async () => {
    bystander = spawn("sleep", ["600"], { stdio: "ignore" });
    await once(bystander, "spawn");
  });
  afterEach(() => {
    const isAlive = bystander.exitCode === null && bystander.signalCode === null;
    bystander.kill();
    expect(isAlive, "the other process was left alone").toBe(true);
  });

  it("from one before the node's restart, even when a process has its pid and start time", async () => {
    const otherBoot = "00000000-0000-4000-8000-000000000000";
    const { pid = 0 } = bystander;
    const hypervisor = { pid, startTicks: markProcess(pid)?.startTicks, bootId: otherBoot };
    await leaveDead((run) => ({ ...run, bootId: otherBoot, hypervisor, helpers: [hypervisor] }));
    expect((await statusNow()).reason).toBe("the node was restarted");
    const { operation } = await berthd.client.startInstance({ params, query: long });
    expect(operation.error).toBeNull();
    expect(await statusNow()).toMatchObject({ phase: "running", ready: true, reason: "" });
  });

  it("from another process that has got its pid, which is never signalled", async () => {
    await leaveDead((run) => ({
      ...run,
      hypervisor: { ...run.hypervisor, pid: bystander.pid },
      helpers: [{ ...run.hypervisor, pid: bystander.pid }],
    }));
    expect(await statusNow()).toMatchObject({ ready: false });
    for (const act of [berthd.client.startInstance, berthd.client.stopInstance]) {
      const { operation } = await act({ params, query: long });
      expect(operation.error).toBeNull();
    }
  });
});

describe("output without end", () => {
  /** What one instance may keep of its console, in bytes: five files, and a line of slack each. */
  const bound = 5 * (2 * 1024 * 1024 + 64 * 1024);

  /** Watches until the log was rotated so often that all of it was replaced more than twice. */
  async function watchRotations(folder: string): Promise<void> {
    const seen = new Set<string>();
    let largest = 0;
    await eventually(() => {
      const files = readdirSync(folder);
      for (const file of files) if (file.startsWith("@")) seen.add(file);
      const sizes = files.map((file) => statSync(join(folder, file), { throwIfNoEntry: false })?.size ?? 0);
      largest = Math.max(
        largest,
        sizes.reduce((sum, size) => sum + size),
      );
      expect(seen.size).toBeGreaterThan(11);
    });
    expect(largest).toBeLessThan(bound);
  }

  const residentKib = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);

  it("stays within bounds with berthd, whose memory stays flat though someone follows without reading, and without it", async () => {
    const command = ["/bin/busybox", "yes", "x".repeat(1000)];
    const instance = await launch(berthd.client, { command });
    const folder = join(dataDir, "instances", instance.id, "vm/log/console");
    const leaving = new AbortController();
    await fetch(`${berthd.url}/api/v1/instances/${name}/logs?follow=true`, {
      headers: { authorization: `Bearer ${berthd.token}` },
      signal: leaving.signal,
    });
    const before = residentKib(berthd.pid);
    await watchRotations(folder);
    expect(residentKib(berthd.pid) - before).toBeLessThan(48 * 1024);
    leaving.abort();
    await berthd.kill();
    await watchRotations(folder);
    berthd = await startBerthd({ dataDir, env });
  });
});
