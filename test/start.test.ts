import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runPurge } from "./support/purge.ts";
import { scratchDirectory } from "./support/scratch.ts";

const repositoryRoot = join(import.meta.dirname, "..");

let home: string;
let dataDir: string;

beforeAll(async () => {
  home = await scratchDirectory("start");
  dataDir = join(home, "data");
  mkdirSync(dataDir, { mode: 0o711 });
});

afterAll(async () => {
  expect(await runPurge(dataDir)).toMatchObject({ code: 0 });
});

/** What `npm start` runs, and all that it says. */
function start(): { readonly child: ChildProcess; said(): string; readonly code: Promise<number> } {
  const child = spawn("node", ["tools/run.mjs", "start"], {
    cwd: repositoryRoot,
    env: { PATH: process.env.PATH, HOME: home, BERTH_DATA_DIR: dataDir, BERTH_LISTEN: "127.0.0.1:0" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += chunk));
  return { child, said: () => said, code: once(child, "close").then(([code]) => code as number) };
}

/** Resolves once it says that; rejects with all it said when it ends before. */
async function untilSaid({ child, said, code }: ReturnType<typeof start>, words: string): Promise<string> {
  const ended = code.then((with_) => {
    throw new Error(`It ended with ${with_}:\n${said()}`);
  });
  while (!said().includes(words)) await Promise.race([once(child.stdout ?? child, "data"), ended]);
  return said();
}

async function seen() {
  const read = (name: string) => readFileSync(join(dataDir, name), "utf8").trim();
  const { url } = JSON.parse(read("listen")) as { url: string };
  const client = createClient({ url, token: read("admin-token") });
  const [instances, images] = [(await client.listInstances()).items, (await client.listImages()).items];
  return {
    instances: instances.map(({ id, name, status }) => [id, name, status.startedAt, status.ports[0]?.hostPort]),
    images: images.map(({ id }) => id),
  };
}

const pageIn = (said: string) => /http:\/\/127\.0\.0\.1:\d+\//.exec(said)?.[0] ?? "";
const keepRunning = "Ctrl-C stops berthd; the VMs keep running.";

describe("npm start", () => {
  it("goes from nothing to a page, leaves the VM running when it is ended, and makes nothing twice", async () => {
    const first = start();
    const said = await untilSaid(first, keepRunning);
    const page = pageIn(said);
    expect(await (await fetch(page)).text()).toContain("virtual machine");
    for (const words of ["/docs\n", "admin-token", "initial-admin-password", "npx berth ls", " s  its web page"])
      expect(said).toContain(words);
    const before = await seen();
    expect(before.instances).toMatchObject([[expect.any(String), "hello", expect.any(String), expect.any(Number)]]);

    first.child.kill("SIGINT");
    expect(await first.code).toBe(0);
    expect(first.said()).toContain("The VMs keep running");
    expect(await (await fetch(page)).text()).toContain("virtual machine");

    const second = start();
    expect(pageIn(await untilSaid(second, keepRunning))).toBe(page);
    expect(await seen()).toEqual(before);

    // Beside one that runs it only shows where that is.
    const third = start();
    expect(await third.code).toBe(0);
    expect(third.said()).toContain("berthd was running already");
    expect(pageIn(third.said())).toBe(page);
    expect(await seen()).toEqual(before);

    second.child.kill("SIGINT");
    expect(await second.code).toBe(0);
    expect(await (await fetch(page)).text()).toContain("virtual machine");
  });
});
