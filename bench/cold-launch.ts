import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { machinePaths } from "../packages/daemon/src/drivers/qemu/handle.ts";
import { type Berthd, startBerthd } from "../test/support/berthd.ts";
import { runPurge } from "../test/support/purge.ts";
import { prepareHelloImage } from "../tools/start/hello-image.ts";
import type { Benchmark } from "./support/benchmark.ts";
import { finish } from "./support/fake-instances.ts";
import { interleave, judge, median, ratio } from "./support/statistics.ts";

const limit = 1.25;
const rounds = 15;

export default {
  name: "Cold launch",
  method: `From the request for an instance of a known image to the first word of the guest's init, against QEMU started by hand with the same arguments, kernel, initramfs and a disk made beforehand, in turn, ${rounds} times.`,
  tuned: [
    "Before, 1.4 x (1.1 x to 2.9 x). The list of all processes, which finds a machine by its mark and is asked several times for each start, is read without a promise for each file: 5 ms instead of 25 to 50 ms.",
  ],
  async run({ scratch, say }) {
    const dataDir = join(scratch, "data");
    // Its rules, and an instance that a failure left running, must not outlive it.
    await using _ = { [Symbol.asyncDispose]: async () => void (await runPurge(dataDir)) };
    await using berthd = await startBerthd({ dataDir, env: { BERTH_LOG_LEVEL: "warn" } });
    const image = prepareHelloImage();
    const source = { type: "directory", path: image.folder } as const;
    say("building the image");
    await finish(
      berthd.client,
      (await berthd.client.buildImage({ body: { reference: image.reference, source } })).operation,
    );
    const raw = await rawMachine(berthd, dataDir, image.reference, join(scratch, "raw"));
    say(`${rounds} rounds`);
    const pairs = await interleave(
      rounds,
      () => launch(berthd, dataDir, image.reference),
      () => raw(),
    );
    const estimate = ratio(pairs);
    const seconds = (side: 0 | 1) => `${(median(pairs.map((pair) => pair[side])) / 1000).toFixed(2)} s`;
    return [
      {
        promise:
          "Cold launch, request to the guest's own first word, against raw QEMU with the same kernel, initramfs and disk",
        estimate,
        limit,
        unit: "x",
        verdict: judge(estimate, limit),
        details: [`${seconds(0)} from the request to berthd, ${seconds(1)} from the start of raw QEMU.`],
      },
    ];
  },
} satisfies Benchmark;

/** Milliseconds from the request to the stamp of the guest's first line on its control port. */
async function launch({ client }: Berthd, dataDir: string, image: string): Promise<number> {
  const before = Date.now();
  const { instance, operation } = await client.createInstance({ body: { image } });
  await finish(client, operation);
  const { vm, logs } = machinePaths(join(dataDir, "instances"), instance.id);
  const [first] = readFileSync(join(vm, logs.control, "current"), "utf8").split("\n");
  // s6-log's stamp, in UTC.
  const at = Date.parse(`${(first ?? "").slice(0, 23).replace(" ", "T")}Z`);
  await finish(
    client,
    (await client.deleteInstance({ params: { instance: instance.id }, query: { force: true } })).operation,
  );
  return at - before;
}

/** Launches one instance to learn the arguments its QEMU gets; gives a function that runs a QEMU with these by hand and measures until its guest's first word. */
async function rawMachine(
  { client }: Berthd,
  dataDir: string,
  image: string,
  folder: string,
): Promise<() => Promise<number>> {
  const { instance, operation } = await client.createInstance({ body: { image } });
  await finish(client, operation);
  const own = join(dataDir, "instances", instance.id);
  const [program = "", ...args] = argumentsOf(`/${instance.id}`);
  const disk = args.flatMap((one) => /filename=([^,]*\.qcow2)/.exec(one)?.[1] ?? [])[0] ?? "";
  const info = JSON.parse(execFileSync("qemu-img", ["info", "-U", "--output=json", disk], { encoding: "utf8" })) as {
    readonly "virtual-size": number;
    readonly "full-backing-filename": string;
    readonly "backing-filename-format": string;
  };
  await finish(
    client,
    (await client.deleteInstance({ params: { instance: instance.id }, query: { force: true } })).operation,
  );
  const moved = (text: string) => text.replaceAll(own, folder);
  return async () => {
    rmSync(folder, { recursive: true, force: true });
    for (const path of args.flatMap((one) =>
      [...one.matchAll(/(?:path|filename)=([^,]+)/g)].map(([, path]) => path ?? ""),
    ))
      if (path.startsWith(own)) mkdirSync(dirname(moved(path)), { recursive: true });
    const { "full-backing-filename": backing, "backing-filename-format": format, "virtual-size": size } = info;
    execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", "-b", backing, "-F", format, moved(disk), String(size)]);
    return firstWord(program, args.map(moved), folder);
  };
}

/** The arguments of the running QEMU whose owner's mark ends so. */
function argumentsOf(markEnd: string): string[] {
  for (const name of readdirSync("/proc").filter((one) => /^\d+$/.test(one))) {
    let args: string[];
    try {
      args = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0").slice(0, -1);
    } catch {
      continue;
    }
    if (args[0]?.includes("qemu-system") && args[args.indexOf("-name") + 1]?.endsWith(markEnd)) return args;
  }
  throw new Error("the instance's QEMU was not found");
}

/** Starts QEMU with files for what berthd gives it as descriptors, waits until the guest wrote to its control port (the second), ends it. */
async function firstWord(program: string, args: readonly string[], folder: string): Promise<number> {
  const paths = ["console", "control", "machine"].map((name) => join(folder, name));
  const fds = paths.map((path) => openSync(path, "a"));
  const before = performance.now();
  const qemu = spawn(program, args, { stdio: ["ignore", "ignore", "inherit", ...fds] });
  for (const fd of fds) closeSync(fd);
  try {
    while (statSync(paths[1] ?? "").size === 0) {
      if (qemu.exitCode !== null) throw new Error(`raw QEMU ended with exit code ${qemu.exitCode}`);
      await delay(2);
    }
    return performance.now() - before;
  } finally {
    if (qemu.exitCode === null) {
      qemu.kill("SIGKILL");
      await once(qemu, "exit");
    }
  }
}
