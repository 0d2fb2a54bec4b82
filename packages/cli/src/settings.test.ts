import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { dataFolder, readSettings } from "./settings.ts";

let home: string;
beforeEach(async () => {
  home = await scratchDirectory("settings");
});

function settings(env: Record<string, string> = {}) {
  return readSettings({ env, home, uid: 1000 });
}

function localDaemon(): void {
  const folder = join(home, ".local/share/berth");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "listen"), "http://127.0.0.1:9000\n");
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

test("a file that others can read, or that makes no sense, is refused", async () => {
  file('{"token":"x"}', 0o644);
  await expect(settings()).rejects.toThrow(/others can read/);
  file("{");
  await expect(settings()).rejects.toThrow(/JSON object/);
  await expect(settings({ BERTH_URL: "127.0.0.1" })).rejects.toThrow(/must/);
});
