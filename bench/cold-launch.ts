import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Benchmark } from "./support/benchmark.ts";
import { compare } from "./support/compare.ts";
import { firstWord, type HelloNode, launch, remove, startHelloNode } from "./support/hello-node.ts";
import { createOverlay, machineOf } from "./support/running-machine.ts";
import { interleave } from "./support/statistics.ts";

const rounds = 15;

export default {
  name: "Cold launch",
  method: `From the request for an instance of a known image to the first word of the guest's init, against QEMU started by hand with the same arguments, kernel, initramfs and a disk made beforehand, in turn, ${rounds} times.`,
  tuned: [
    "Before, 1.4 x (1.1 x to 2.9 x). The list of all processes, which finds a machine by its mark and is asked several times for each start, is read without a promise for each file: 5 ms instead of 25 to 50 ms.",
  ],
  async run({ scratch, times, say }) {
    await using node = await startHelloNode(scratch, say);
    const raw = await rawMachine(node, join(scratch, "raw"));
    say(`${times(rounds)} rounds`);
    const pairs = await interleave(
      times(rounds),
      async () => {
        const launched = await launch(node);
        const word = firstWord(node, launched);
        await remove(node, launched.id);
        return word;
      },
      () => raw(),
    );
    return [
      compare({
        promise:
          "Cold launch, request to the guest's own first word, against raw QEMU with the same kernel, initramfs and disk",
        limit: 1.25,
        pairs,
        ours: "a launch",
        theirs: "raw QEMU",
      }),
    ];
  },
} satisfies Benchmark;

/** Launches one instance to learn the arguments its QEMU gets; gives a function that runs a QEMU with these by hand and measures until its guest's first word. */
async function rawMachine(node: HelloNode, folder: string): Promise<() => Promise<number>> {
  const { id } = await launch(node);
  const own = join(node.dataDir, "instances", id);
  const { program, args, disk } = machineOf(id);
  await remove(node, id);
  const moved = (text: string) => text.replaceAll(own, folder);
  return async () => {
    rmSync(folder, { recursive: true, force: true });
    for (const path of args.flatMap((one) =>
      [...one.matchAll(/(?:path|filename)=([^,]+)/g)].map(([, path]) => path ?? ""),
    ))
      if (path.startsWith(own)) mkdirSync(dirname(moved(path)), { recursive: true });
    createOverlay(moved(disk.path), disk);
    return rawWord(program, args.map(moved), folder);
  };
}

/** Starts QEMU with files for what berthd gives it as descriptors, waits until the guest wrote to its control port (the second), ends it. */
async function rawWord(program: string, args: readonly string[], folder: string): Promise<number> {
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
