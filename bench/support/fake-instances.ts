import type { Client, Instance } from "@berth/api";

/** Launches instances on a berthd with the driver fake and waits until they run. */
export async function launchFake(client: Client, count: number): Promise<Instance[]> {
  const made: Instance[] = [];
  for (let index = 0; index < count; index++) {
    const { instance, operation } = await client.createInstance({
      body: { image: "berth.test/fake:latest", name: `bench-${index}`, memoryMib: 64, labels: { for: "bench" } },
    });
    const ended = await client.waitForOperation(operation.id);
    if (ended.status !== "succeeded")
      throw new Error(`launching ${instance.name} ${ended.status}: ${ended.error?.detail}`);
    made.push(await client.getInstance({ params: { instance: instance.id } }));
  }
  return made;
}
