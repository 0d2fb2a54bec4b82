import { openSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { tinyGuest } from "../../../../../test/support/tiny-guest.ts";
import type { KitDescription } from "../../core/descriptions.ts";
import type { ProcessIdentity } from "../../host/host.ts";
import { localHost } from "../../host/local.ts";
import type { CreateInputs } from "../driver.ts";
import { commandLine, memoryBytes, siblingCommandLine } from "./command-line.ts";
import type { Qmp } from "./qmp.ts";
import { answering, untilMigration } from "./sibling.ts";

const host = localHost();
const memoryMib = 128;
const pageBytes = 4096;
const evenBytes = memoryMib * 1024 ** 2;
const signal = AbortSignal.timeout(110_000);
const major = Number(/version (\d+)/.exec((await host.run("qemu-system-x86_64", ["--version"])).stdout)?.[1]);

let folder: string;
let kit: KitDescription;

beforeAll(async () => {
  folder = await scratchDirectory("odd");
  // It has the kernel write to the same few pages all the time.
  const script =
    "say here\nwhile true; do dd if=/dev/zero of=/file bs=4k count=200 2>/dev/null; ls / >/dev/null; done\n";
  kit = await tinyGuest(host, folder, script);
});

/** Hands a machine that writes all the time over to its sibling; resolves with how many pages the two differ in while neither runs. */
async function differingPages(name: string, bytes: number): Promise<number> {
  const at = (file: string) => join(folder, `${name}-${file}`);
  const owner = { installationId: `odd-${process.pid}`, instanceId: `i-${name}` };
  const inputs: CreateInputs = {
    ...{ owner, name, cpus: 1, memoryMib, disks: [], nics: [], kit, user: null, launcher: [] },
  };
  const sockets = Object.fromEntries(["qmp", "work", "console", "control", "channel"].map((id) => [id, at(id)]));
  const started: ProcessIdentity[] = [];
  onTestFinished(async () => {
    for (const process of started) {
      await host.signal(process, "SIGKILL");
      await host.waitForExit(process, AbortSignal.timeout(10_000));
    }
  });
  const ram = at("ram");
  const start = async (args: readonly string[], fds: readonly number[], path: string) => {
    const sized = args.map((arg) => arg.replaceAll(String(memoryBytes(memoryMib)), String(bytes)));
    const process = await host.detach("qemu-system-x86_64", sized, { cwd: folder, fds });
    started.push(process);
    return answering(host, { path, process, signal });
  };
  const parts = { accelerator: "tcg", generation: "g", nodes: [], fromMemory: false, paused: false } as const;
  const logs = ["/dev/null", at("said"), "/dev/null"].map((path) => openSync(path, "a"));
  const machine = await start(commandLine(inputs, { ...parts, sockets: sockets as never }), logs, at("qmp"));
  await host.files.makeSparse(ram, bytes, { mode: 0o600 });
  const siblingSockets = { qmp: at("sib"), hop: at("hop") };
  const sibling = await start(
    siblingCommandLine(inputs, { accelerator: "tcg", sockets: siblingSockets, diskBytes: [] }),
    [await host.files.openDescriptor(ram, "read-write")],
    at("sib"),
  );
  await expect.poll(() => host.files.readText(at("said")), { timeout: 60_000 }).toContain("here");
  await delay(500); // for it to be busy
  await setCapabilities(sibling, ["events"]);
  await setCapabilities(machine, ["events", "pause-before-switchover"]);
  await machine.execute("migrate-set-parameters", { "downtime-limit": 2, "max-bandwidth": 1024 ** 4 });
  await machine.execute("migrate", { uri: `unix:${at("hop")}` });
  // One that is never done with: it has made some passes by then.
  const patience = setTimeout(
    () => void machine.execute("migrate-set-parameters", { "downtime-limit": 60_000 }),
    4_000,
  );
  await untilMigration(machine, "pre-switchover", signal);
  clearTimeout(patience);
  await machine.execute("migrate-continue", { state: "pre-switchover" });
  await untilMigration(machine, "completed", signal);
  await untilMigration(sibling, "completed", signal);
  await machine.execute("pmemsave", { val: 0, size: bytes, filename: at("dump") });
  for (const qmp of [machine, sibling]) qmp.close();
  return countDifferingPages(at("dump"), ram);
}

async function countDifferingPages(...paths: readonly [string, string]): Promise<number> {
  const [one, other] = await Promise.all(paths.map((path) => open(path)));
  const [left, right] = [Buffer.alloc(pageBytes), Buffer.alloc(pageBytes)];
  let count = 0;
  try {
    for (let position = 0; ; position += pageBytes) {
      const read = await one?.read(left, { position });
      await other?.read(right, { position });
      if (!read || read.bytesRead === 0) return count;
      if (!left.equals(right)) count += 1;
    }
  } finally {
    await one?.close();
    await other?.close();
  }
}

async function setCapabilities(qmp: Qmp, names: readonly string[]): Promise<void> {
  await qmp.execute("migrate-set-capabilities", {
    capabilities: names.map((capability) => ({ capability, state: true })),
  });
}

test("memory of our size is saved as it is while its guest writes", async () => {
  expect(await differingPages("odd", memoryBytes(memoryMib))).toBe(0);
});

/** The reason for that size: whoever takes it away sees guests corrupted, once in a while, on QEMU before 9. */
test.runIf(major < 9)("memory of an even size is not, on this QEMU", async () => {
  expect(await differingPages("even", evenBytes)).toBeGreaterThan(0);
});
