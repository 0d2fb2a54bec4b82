import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "@berth/api";
import { expect } from "vitest";
import { World } from "../../packages/daemon/src/drivers/fake/world.ts";
import { localFiles } from "../../packages/daemon/src/host/files.ts";
import { parseQcow2Header } from "../../packages/daemon/src/storage/qcow2-header.ts";
import { eventually } from "../support/eventually.ts";

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

/** The instances that the fake hypervisor has machines of. */
async function ownersOfFakes(dataDir: string): Promise<readonly string[]> {
  const machines = await new World(localFiles, join(dataDir, "fake"), 0).readAll();
  return machines.map(({ owner }) => owner.instanceId);
}

/** Every folder of frozen files is a snapshot's, or something stands on it; every disk is one, and whole; nothing is half merged. */
async function auditSnapshots(client: Client, dataDir: string): Promise<void> {
  const root = join(dataDir, "snapshots");
  const frozen = list(root).flatMap((folder) => list(join(root, folder)).map((name) => join(root, folder, name)));
  const disks = list(join(dataDir, "instances")).flatMap((id) => {
    const folder = join(dataDir, "instances", id, "vm");
    return list(folder)
      .filter((name) => name.includes(".qcow2"))
      .map((name) => join(folder, name));
  });
  const halfMerged = frozen.filter((path) => /[.]qcow2[.]/.test(path));
  expect(halfMerged, "half merged files").toEqual([]);
  for (const path of disks) expect(path, "disks").toMatch(/[.]qcow2$/);
  const images = [...disks, ...frozen.filter((path) => path.endsWith(".qcow2"))];
  const stoodOn = new Set(images.map(backingOf));
  for (const path of images) {
    const below = backingOf(path);
    if (below) expect(existsSync(below), `what ${path} stands on: ${below}`).toBe(true);
  }
  const { items } = await client.listSnapshots({ query: { limit: 500 } });
  for (const { name, state, operationId } of items) expect([name, state, operationId]).toEqual([name, "ready", null]);
  const recorded = new Map(list(root).map((folder) => [folder, snapshotOf(join(root, folder))]));
  const ids = items.map(({ id }) => id);
  expect([...recorded.values()], "the snapshots that have a folder").toEqual(expect.arrayContaining(ids));
  const isIdle = (folder: string) => !list(join(root, folder)).some((name) => stoodOn.has(join(root, folder, name)));
  const left = [...recorded].filter(([folder, id]) => !ids.includes(id) && isIdle(folder));
  expect(left, "folders of frozen files that nobody needs").toEqual([]);
}

/** The snapshot that a folder was made for; empty for none. */
function snapshotOf(folder: string): string {
  const path = join(folder, "snapshot.json");
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as { snapshotId: string }).snapshotId : "";
}

/** The file that a qcow2 file says it stands on; empty for none. */
function backingOf(path: string): string {
  const head = readFileSync(path).subarray(0, 65_536);
  return parseQcow2Header(head)?.backingPath ?? "";
}

/**
 * Holds what is on the node against what the store knows, in both directions: instance folders, the hypervisor's machines (the fake one's, when nothing else is
 * given), artifacts, and half-made things. Throws naming what is left over or missing. Nothing may be under way meanwhile.
 */
export async function audit(client: Client, dataDir: string, machineOwners = ownersOfFakes): Promise<void> {
  const instances = (await client.listInstances({ query: { limit: 500 } })).items;
  const { items: pools } = await client.listPools({ query: { limit: 500 } });
  const waiting = pools.flatMap(({ machines }) => machines);
  const ids = [...instances, ...waiting].map(({ id }) => id).sort();
  expect(
    waiting.filter(({ state }) => state !== "ready"),
    "machines that nobody makes or removes",
  ).toEqual([]);
  expect(list(join(dataDir, "instances")), "instance folders").toEqual(ids);
  expect([...(await machineOwners(dataDir))].sort(), "machines of the hypervisor").toEqual(ids);

  const withMemory = ids.filter((id) => existsSync(join(dataDir, "instances", id, "memory")));
  const suspended = instances.filter(({ status }) => status.phase === "suspended").map(({ id }) => id);
  expect(withMemory, "instances with memory on disk").toEqual(suspended.sort());

  const images = (await client.listImages({ query: { limit: 500 } })).items;
  const digests = images
    .filter(({ state }) => state === "ready")
    .map(({ contentDigest }) => contentDigest?.slice("sha256:".length) ?? "");
  const artifacts = list(join(dataDir, "artifacts")).map((name) => name.slice(0, 64));
  for (const artifact of artifacts) expect(digests, "the images that have an artifact").toContain(artifact);
  expect(list(join(dataDir, "tmp")), "half-made things").toEqual([]);
  const templates = (await client.listTemplates({ query: { limit: 500 } })).items;
  const kept = templates.filter(({ state }) => state === "ready").map(({ id }) => id);
  expect(list(join(dataDir, "templates")), "folders of templates").toEqual(kept.sort());
  const archives = (await client.listArchives({ query: { limit: 500 } })).items;
  expect(list(join(dataDir, "archives")), "archives").toEqual(archives.map(({ id }) => `${id}.berth`).sort());
  // Frozen files are merged in the background, and nothing tells when that is done.
  await eventually(() => auditSnapshots(client, dataDir));
  const claims = instances.filter(({ operationId }) => operationId !== null);
  expect(claims, "instances held by nobody's operation").toEqual([]);
}
