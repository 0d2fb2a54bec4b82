import { join } from "node:path";
import { sql } from "kysely";
import { describe, expect, test } from "vitest";
import { createDatabase } from "../../../../test/support/postgres.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { newId } from "../core/ids.ts";
import { newInstance } from "./contract.ts";
import { listInstances } from "./instances.ts";
import { openStore, type Store, type StoreLocation } from "./store.ts";

const places: [string, () => Promise<StoreLocation>][] = [
  ["SQLite", async () => ({ kind: "sqlite", path: join(await scratchDirectory("paging"), "berth.db") })],
  ["PostgreSQL", async () => ({ kind: "postgres", url: await createDatabase() })],
];

/** What is listed: all; by a label that all have; by a label that one in fifty has; by a phase that half have. */
const lists = {
  all: {},
  "a common label": { labels: [{ key: "app", value: "web" }] },
  "a rare label": { labels: [{ key: "team", value: "7" }] },
  "a label with any value": { labels: [{ key: "team" }, { key: "app", value: "web" }] },
  "a phase": { phase: "running" as const },
};

describe.each(places)("on %s", (_name, place) => {
  test("a page of 50 of 10,000 instances costs less than 3 times a page of 50 of 100", async () => {
    const store = await openStore(await place());
    await fill(store, "small", 100);
    await fill(store, "large", 10_000);
    // As PostgreSQL's autovacuum does by itself after a while; nobody does it on SQLite.
    if (store.dialect === "postgres") await sql`analyze`.execute(store.queries);
    for (const [name, filter] of Object.entries(lists)) {
      const middle = async (project: string) =>
        (await listInstances(store.queries, { project, ...filter, limit: 2 })).nextCursor;
      for (const cursor of [false, true]) {
        const page = async (project: string) => {
          const from = cursor ? await middle(project) : null;
          const options = { project, ...filter, limit: 50, ...(from ? { cursor: from } : {}) };
          return () => listInstances(store.queries, options);
        };
        const [small, large] = await medians(await page("small"), await page("large"));
        // As many rows for both, or the small one has fewer: then each row is what counts.
        const rows = async (project: string) => (await (await page(project))()).rows.length;
        const perRow = large / (await rows("large")) / (small / (await rows("small")));
        expect(Math.min(large / small, perRow), `${name}, ${cursor ? "further on" : "the first page"}`).toBeLessThan(3);
      }
    }
    await store.close();
  });
});

async function fill(store: Store, project: string, count: number): Promise<void> {
  await store.queries
    .insertInto("project")
    .values({ id: newId("project"), name: project, created_at: 1 })
    .execute();
  const image = newId("image");
  const now = { created_at: 1, updated_at: 1 };
  await store.queries
    .insertInto("image")
    .values({
      id: image,
      project,
      source: "{}",
      state: "ready",
      reason: "",
      kind: "rootfs",
      os: "",
      architecture: "",
      firmware: "",
      ...now,
    })
    .execute();
  for (let first = 0; first < count; first += 500) {
    const made = Array.from({ length: Math.min(500, count - first) }, (_, index) => ({
      instance: newInstance(image, { project }),
      number: first + index,
    }));
    const instances = made.map(({ instance, number }) => ({
      id: instance.id,
      project,
      name: instance.name,
      labels: "{}",
      image_id: image,
      image: "web",
      location: "node1/qemu",
      node_id: instance.nodeId,
      spec: JSON.stringify(instance.spec),
      status: JSON.stringify(instance.status),
      phase: number % 2 ? "running" : "stopped",
      generation: 1,
      created_at: number,
      updated_at: number,
    }));
    const labels = made.flatMap(({ instance, number }) =>
      Object.entries({ app: "web", team: String(number % 50) }).map(([key, value]) => ({
        instance_id: instance.id,
        key,
        value,
        project,
        created_at: number,
      })),
    );
    await store.queries.insertInto("instance").values(instances).execute();
    await store.queries.insertInto("instance_label").values(labels).execute();
  }
}

/** The middle times of two things done in turns, in milliseconds. */
async function medians(one: () => Promise<unknown>, other: () => Promise<unknown>): Promise<[number, number]> {
  const times: [number[], number[]] = [[], []];
  for (let round = 0; round < 31; round++) {
    for (const [index, work] of [one, other].entries()) {
      const began = performance.now();
      await work();
      times[index]?.push(performance.now() - began);
    }
  }
  const middle = (values: number[]) => values.toSorted((a, b) => a - b)[15] ?? Number.NaN;
  return [middle(times[0]), middle(times[1])];
}
