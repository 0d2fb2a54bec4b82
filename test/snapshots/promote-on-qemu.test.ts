import { join } from "node:path";
import { expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { accelerated, removeRules } from "../faults/audit-qemu.ts";
import { startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";

const query = { wait: 300 } as const;

it("an image of a running guest's snapshot boots, and has what was written", async () => {
  const scratch = await scratchDirectory("prq");
  const dataDir = join(scratch, "data");
  await using berthd = await startBerthd({ dataDir, env: { BERTH_LOG_LEVEL: "warn", BERTH_TEMPLATES: "asked" } });
  const { client } = berthd;
  await buildBusybox(client, scratch);
  await accelerated(dataDir);
  const succeeded = async <C extends { operation: { error: unknown } }>(asked: Promise<C>): Promise<C> => {
    const change = await asked;
    expect(change.operation.error).toBeNull();
    return change;
  };
  const launch = (name: string, image: string) =>
    succeeded(client.createInstance({ query, body: { image, name, memoryMib: 96, ports: [{ guestPort: 80 }] } }));
  await launch("web", busyboxImage);
  const body = writeTar([{ path: "note", content: "written" }]);
  await client.writeFiles({ params: { instance: "web" }, query: { path: "/" }, body });
  const { snapshot } = await succeeded(client.createSnapshot({ query, body: { instance: "web", name: "point" } }));
  expect(snapshot.consistency).toBe("frozen");
  const promote = client.promoteSnapshot({ params: { snapshot: "point" }, query, body: { reference: "golden" } });
  const { image } = await succeeded(promote);
  await succeeded(
    client.deleteInstance({ params: { instance: "web" }, query: { ...query, force: true, snapshots: true } }),
  );
  const { instance } = await launch("copy", "golden");
  expect(instance).toMatchObject({ imageId: image.id, status: { phase: "running", ready: true } });
  // Its web server is the one that the first image's CMD names.
  const [port] = instance.status.ports;
  const served = await fetch(`http://127.0.0.1:${port?.hostPort}/note`);
  expect([served.status, await served.text()]).toEqual([200, "written"]);
  await succeeded(client.deleteInstance({ params: { instance: "copy" }, query: { ...query, force: true } }));
  await settled(client);
  await berthd.stop();
  removeRules(dataDir);
});
