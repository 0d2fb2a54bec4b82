import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { identifyProcess } from "../../daemon/src/host/processes.ts";
import { dataFolder, readSettings } from "./settings.ts";

let home: string;
beforeEach(async () => {
  home = await scratchDirectory("settings");
});

async function settings(env: Record<string, string> = {}) {
  const { url, token } = await readSettings({ env, home, uid: 1000 });
  return { url, token: typeof token === "string" ? token : token() };
}

/** What a berthd has put into its data folder; this process, unless it is another that listens. */
function localDaemon(listening: object = {}, url = "http://127.0.0.1:9000"): void {
  const folder = join(home, ".local/share/berth");
  mkdirSync(folder, { recursive: true });
  const process = { ...identifyProcess(globalThis.process.pid), ...listening };
  writeFileSync(join(folder, "listen"), JSON.stringify({ url, process }));
  writeFileSync(join(folder, "admin-token"), "berth_local\n");
}

function file(content: string, mode = 0o600): void {
  mkdirSync(join(home, ".config/berth"), { recursive: true });
  writeFileSync(join(home, ".config/berth/config.json"), content);
  chmodSync(join(home, ".config/berth/config.json"), mode);
}

test("where data lives", () => {
  expect(dataFolder({ env: {}, home: "/home/a", uid: 1000 })).toBe("/home/a/.local/share/berth");
  expect(dataFolder({ env: {}, home: "/root", uid: 0 })).toBe("/var/lib/berth");
  expect(dataFolder({ env: { BERTH_DATA_DIR: "/d" }, home: "/root", uid: 0 })).toBe("/d");
});

test("the local daemon is found by itself", async () => {
  localDaemon();
  expect(await settings()).toEqual({ url: "http://127.0.0.1:9000", token: "berth_local" });
});

test("the file comes before it, the environment before both", async () => {
  localDaemon();
  file('{"url":"https://b.example/","token":"berth_file"}');
  expect(await settings()).toEqual({ url: "https://b.example", token: "berth_file" });
  expect(await settings({ BERTH_URL: "http://127.0.0.1:9000/", BERTH_TOKEN: "t" })).toEqual({
    url: "http://127.0.0.1:9000",
    token: "t",
  });
});

test("a token is never sent to another address than its own", async () => {
  localDaemon();
  file('{"url":"https://b.example","token":"berth_file"}');
  expect(await settings({ BERTH_URL: "http://evil.example" })).toEqual({ url: "http://evil.example", token: "" });
  expect(await settings({ BERTH_URL: "http://127.0.0.1:9000" })).toMatchObject({ token: "berth_local" });
});

test("a token in the file without an address is for this machine's berthd", async () => {
  file('{"token":"berth_file"}');
  expect(await settings({ BERTH_URL: "http://evil.example" })).toEqual({ url: "http://evil.example", token: "" });
  expect(await settings()).toEqual({ url: "http://127.0.0.1:8642", token: "berth_file" });
  localDaemon();
  expect(await settings()).toEqual({ url: "http://127.0.0.1:9000", token: "berth_file" });
});

test("the token of a berthd that is not there any more goes to nobody who has its address or the usual one", async () => {
  const anotherProcess = { startTicks: "1" };
  const anotherBoot = { bootId: "0" };
  for (const [gone, url] of [
    [anotherProcess, undefined],
    [anotherBoot, undefined],
    [anotherProcess, "http://127.0.0.1:8642"],
  ] as const) {
    localDaemon(gone, url);
    await expect(settings()).rejects.toThrow(/^No berthd is up that works in .*\/berth\.$/);
  }
  expect(await settings({ BERTH_URL: "http://127.0.0.1:9000" })).toMatchObject({ token: "" });
  rmSync(join(home, ".local/share/berth/listen"));
  await expect(settings()).rejects.toThrow(/No berthd is up/);
});

test("it is looked at anew for each request, and finds the berthd that was started again there", async () => {
  localDaemon();
  const { token } = await readSettings({ env: {}, home, uid: 1000 });
  const next = token as () => string;
  expect(next()).toBe("berth_local");
  localDaemon({ startTicks: "1" });
  expect(next).toThrow(/No berthd is up/);
  localDaemon({}, "http://127.0.0.1:9001");
  expect(next).toThrow(/No berthd is up/);
  localDaemon();
  expect(next()).toBe("berth_local");
});

test("a file that others can read, or that makes no sense, is refused", async () => {
  file('{"token":"x"}', 0o644);
  await expect(settings()).rejects.toThrow(/others can read/);
  file("{");
  await expect(settings()).rejects.toThrow(/JSON object/);
  await expect(settings({ BERTH_URL: "127.0.0.1" })).rejects.toThrow(/must/);
});
