import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Trial, TrialResult } from "../../../../test/support/isolation-trial.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";

const host = localHost();
const trialProgram = fileURLToPath(import.meta.resolve("../../../../test/support/isolation-trial.ts"));

/** A host of its own to be kept from, and one beyond it to be reached: two network namespaces and a cable, so that nothing of this machine changes. */
const tried = `berth-${process.pid}`;
const beyond = `berth-${process.pid}-b`;
const addresses = { beyond: "198.51.100.2", own: "198.51.100.1", other: "203.0.113.1", linkLocal: "169.254.77.1" };
const hostLoopback = "10.0.2.2";
/** What a namespace's helper would map to the host's loopback by default. */
const helperGateway = "10.0.3.2";
const targets = [...Object.values(addresses), hostLoopback, helperGateway];
const port = 8000;
const ordinaryUid = 65534;

async function ip(...args: string[]): Promise<void> {
  await host.run("ip", args);
}

async function makeNetworks(): Promise<void> {
  for (const name of [tried, beyond]) {
    await ip("netns", "add", name);
    await ip("-n", name, "link", "set", "lo", "up");
  }
  await ip("-n", tried, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", beyond);
  await ip("-n", tried, "addr", "add", `${addresses.own}/24`, "dev", "cable");
  await ip("-n", tried, "addr", "add", `${addresses.linkLocal}/16`, "dev", "cable");
  await ip("-n", tried, "addr", "add", `${addresses.other}/32`, "dev", "lo");
  await ip("-n", beyond, "addr", "add", `${addresses.beyond}/24`, "dev", "cable");
  for (const name of [tried, beyond]) await ip("-n", name, "link", "set", "cable", "up");
  await ip("-n", tried, "route", "add", "default", "via", addresses.beyond);
}

beforeAll(async () => {
  await makeNetworks();
  const server = host.start("ip", [
    ...["netns", "exec", beyond],
    ...["busybox", "nc", "-ll", "-p", String(port), "-e", "echo", "the host beyond"],
  ]);
  return async () => {
    process.kill(server.pid);
    await server.done.catch(() => {});
    for (const name of [tried, beyond]) await ip("netns", "del", name);
  };
});

/** Where /dev/net/tun is not everyone's as udev makes it, a trial in a mount namespace of its own gets one that is. */
async function asOrdinaryUser(folder: string): Promise<string[]> {
  const tun = join(folder, "tun");
  await host.run("mknod", ["-m", "666", tun, "c", "10", "200"]);
  return [
    ...["unshare", "--mount", "--"],
    ...["/usr/lib/execline/bin/if", " mount", " --bind", ` ${tun}`, " /dev/net/tun", ""],
    ...["setpriv", `--reuid=${ordinaryUid}`, `--regid=${ordinaryUid}`, "--clear-groups", "--"],
  ];
}

async function runTrial(user: "root" | "ordinary", unprotected: boolean): Promise<TrialResult> {
  const scratch = await scratchDirectory("iso");
  const folder = join(scratch, "d");
  await mkdir(folder, { mode: 0o711 });
  const trial: Trial = { folder, installationId: `iso-${process.pid}`, unprotected, targets, port };
  if (user === "ordinary") await host.files.chown(folder, ordinaryUid, ordinaryUid);
  const wrapper = user === "ordinary" ? await asOrdinaryUser(scratch) : [];
  const program = [process.execPath, trialProgram, JSON.stringify(trial)];
  const { stdout } = await host.run("ip", ["netns", "exec", tried, ...wrapper, ...program], { timeoutMs: 100_000 });
  onTestFinished(async () => expect(await leftovers(folder)).toEqual([]));
  return JSON.parse(stdout);
}

/** Processes and rules that a trial left. */
async function leftovers(folder: string): Promise<readonly string[]> {
  const processes = await host.processes((args) => args.some((arg) => arg.includes(folder)));
  const { stdout } = await host.run("ip", ["netns", "exec", tried, "nft", "list", "ruleset"]);
  return [...processes.map(({ args }) => args.join(" ")), stdout].filter((text) => text !== "");
}

const isRoot = process.getuid?.() === 0;

describe.runIf(isRoot)("a guest of a daemon that is root", () => {
  test("reaches out and is reached, and gets to nothing of its host", async () => {
    const { reached, refused, published } = await runTrial("root", false);
    expect({ reached, published }).toEqual({ reached: [addresses.beyond], published: "the guest" });
    expect(refused).toEqual(targets.filter((target) => target !== addresses.beyond));
  });

  test("would reach all of it without the rules", async () => {
    const { reached } = await runTrial("root", true);
    expect(reached).toEqual([...Object.values(addresses), hostLoopback]);
  });
});

describe.runIf(isRoot)("a guest of a daemon that is an ordinary user", () => {
  test("reaches out and is reached, and gets to nothing of its host", async () => {
    const { reached, refused, published } = await runTrial("ordinary", false);
    expect({ reached, published }).toEqual({ reached: [addresses.beyond], published: "the guest" });
    expect(refused).toEqual(targets.filter((target) => target !== addresses.beyond));
  });

  test("would reach its host's addresses without the rules, and its loopback by the helper's own default", async () => {
    const { reached } = await runTrial("ordinary", true);
    expect(reached).toEqual([...Object.values(addresses), helperGateway]);
  });
});
