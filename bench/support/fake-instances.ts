import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Client, Instance, Operation } from "@berth/api";

/** Launches instances of one tiny image on a berthd with the driver fake, one after the other, and waits until they run. */
export async function launchFake(client: Client, scratch: string, count: number): Promise<Instance[]> {
  const folder = join(scratch, "image");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "Dockerfile"), 'FROM scratch\nCOPY Dockerfile /\nENTRYPOINT ["/none"]\n');
  const image = "localhost/bench:latest";
  const source = { type: "directory", path: folder } as const;
  await finish(client, (await client.buildImage({ body: { reference: image, source } })).operation);
  const made: Instance[] = [];
  for (let index = 0; index < count; index++) {
    const body = { image, name: `bench-${index}`, memoryMib: 96, labels: { for: "bench" } };
    const { instance, operation } = await client.createInstance({ body });
    await finish(client, operation);
    made.push(await client.getInstance({ params: { instance: instance.id } }));
  }
  return made;
}

/** Waits for an operation to succeed. */
export async function finish(client: Client, { id, type }: Operation): Promise<void> {
  const ended = await client.waitForOperation(id);
  if (ended.status !== "succeeded") throw new Error(`${type} ${ended.status}: ${ended.error?.detail}`);
}
