import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { ConfigError } from "./config.ts";
import { keepNodeFile, readNodeFile, takeDataFolder } from "./data-folder.ts";
import { localHost } from "./host/local.ts";

const host = localHost();
const facts = await host.facts();
const scratch = await scratchDirectory("data");

test("a folder that VMs' users could not reach is refused, when berthd is root", async () => {
  const closed = join(scratch, "closed");
  await mkdir(closed, { mode: 0o700 });
  const folder = join(closed, "data");
  await expect(takeDataFolder(host, { ...facts, uid: 0 }, folder)).rejects.toThrow(`chmod o+x ${closed}`);
  await chmod(closed, 0o711);
  await (await takeDataFolder(host, { ...facts, uid: 0 }, folder)).release();
});

test("an ordinary user's may be as closed as it likes", async () => {
  const closed = join(scratch, "private");
  await mkdir(closed, { mode: 0o700 });
  await (await takeDataFolder(host, { ...facts, uid: 1000 }, join(closed, "data"))).release();
});

test("a link is refused, and so is a second berthd", async () => {
  const folder = join(scratch, "data");
  const lock = await takeDataFolder(host, facts, folder);
  await expect(takeDataFolder(host, facts, folder)).rejects.toThrow("Another berthd works in");
  await lock.release();
  await symlink(folder, join(scratch, "link"));
  await expect(takeDataFolder(host, facts, join(scratch, "link"))).rejects.toThrow("is a link");
});

test("one that is no folder, or lies below one that is none, is refused in words", async () => {
  const file = join(scratch, "file");
  await writeFile(file, "");
  for (const [path, words] of [
    [file, "it is no folder"],
    [join(file, "data"), "on the way to it is no folder"],
  ] as const) {
    const refused = takeDataFolder(host, facts, path);
    await expect(refused).rejects.toThrow(ConfigError);
    await expect(refused).rejects.toThrow(words);
  }
});

test("the node stays the same, whatever becomes of its store and its host's name", async () => {
  expect(await readNodeFile(host, scratch)).toBeUndefined();
  const node = await keepNodeFile(host, scratch, { installationId: "one", name: "box" });
  expect(node.name).toBe("box");
  expect(await keepNodeFile(host, scratch, { installationId: "two", name: "renamed" })).toEqual(node);
  expect(await readNodeFile(host, scratch)).toEqual({ ...node, installationId: "two" });
});

test("a node of before names takes its host's, and keeps it", async () => {
  const folder = join(scratch, "nameless");
  await mkdir(folder);
  await writeFile(join(folder, "node.json"), JSON.stringify({ nodeId: "n-1", installationId: "one" }));
  const node = { nodeId: "n-1", name: "box" };
  expect(await keepNodeFile(host, folder, { installationId: "one", name: "box" })).toEqual(node);
  expect(await keepNodeFile(host, folder, { installationId: "one", name: "renamed" })).toEqual(node);
});
