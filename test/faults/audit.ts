import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "@berth/api";
import { expect } from "vitest";
import { World } from "../../packages/daemon/src/drivers/fake/world.ts";
import { localFiles } from "../../packages/daemon/src/host/files.ts";

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

/** The instances that the fake hypervisor has machines of. */
async function ownersOfFakes(dataDir: string): Promise<readonly string[]> {
  const machines = await new World(localFiles, join(dataDir, "fake"), 0).readAll();
  return machines.map(({ owner }) => owner.instanceId);
}

/**
 * Holds what is on the node against what the store knows, in both directions: instance folders, the hypervisor's machines (the fake one's, when nothing else is
 * given), artifacts, and half-made things. Throws naming what is left over or missing. Nothing may be under way meanwhile.
 */
export async function audit(client: Client, dataDir: string, machineOwners = ownersOfFakes): Promise<void> {
  const instances = (await client.listInstances({ query: { limit: 500 } })).items;
  const ids = instances.map(({ id }) => id).sort();
  expect(list(join(dataDir, "instances")), "instance folders").toEqual(ids);
  expect([...(await machineOwners(dataDir))].sort(), "machines of the hypervisor").toEqual(ids);

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
  const claims = instances.filter(({ operationId }) => operationId !== null);
  expect(claims, "instances held by nobody's operation").toEqual([]);
}
