import { createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { CreateInstanceInput } from "@berth/api";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { accelerated, auditQemu, removeRules } from "../faults/audit-qemu.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { freePort } from "../support/ports.ts";
import { expectFailed } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";

const long = { wait: 120 } as const;
const name = "web";
const params = { instance: name };

let dataDir: string;
let berthd: Berthd;

beforeAll(async () => {
  const scratch = await scratchDirectory("gst");
  dataDir = join(scratch, "data");
  berthd = await startBerthd({ dataDir, env: { BERTH_LOG_LEVEL: "warn" } });
  await buildBusybox(berthd.client, scratch);
  await accelerated(dataDir);
});

afterAll(async () => {
  await berthd?.stop();
  removeRules(dataDir);
});

afterEach(async () => {
  const { client } = berthd;
  for (const { id } of (await client.listInstances({ query: {} })).items)
    expect((await client.deleteInstance({ params: { instance: id }, query: long })).operation.error).toBeNull();
  await auditQemu(client, dataDir, berthd.pid);
});

const launch = (asked: Partial<CreateInstanceInput>) =>
  berthd.client.createInstance({ query: long, body: { image: busyboxImage, name, memoryMib: 128, ...asked } });
const statusNow = async () => (await berthd.client.getInstance({ params })).status;

it("an entrypoint that does not exist: said so, and the instance is kept to be looked at", async () => {
  await expectFailed(launch({ entrypoint: ["/no/such/program"] }), "start_failed", /\/no\/such\/program/);
  expect(await statusNow()).toMatchObject({
    phase: "failed",
    ready: false,
    reason: expect.stringContaining("/no/such"),
  });
});

it("an entrypoint that exits at once: its exit code and last words can be read", async () => {
  const command = ["/bin/sh", "-c", "echo last words; exit 3"];
  await expectFailed(launch({ command, ports: [{ guestPort: 80 }] }), "exited_early", "ended with exit code 3");
  expect(await statusNow()).toMatchObject({ phase: "failed", exitCode: 3 });
  expect(await text(await berthd.client.instanceLogs({ params, query: {} }))).toBe("last words\n");
});

it("a program that has done its work is no failure, unless somebody waits on its port", async () => {
  const command = ["/bin/sh", "-c", "echo done"];
  const { operation } = await launch({ command });
  expect(operation.error).toBeNull();
  await expectFailed(
    berthd.client.createInstance({
      query: long,
      body: { image: busyboxImage, name: "other", memoryMib: 128, command, ports: [{ guestPort: 80 }] },
    }),
    "exited_early",
    "ended with exit code 0",
  );
});

it("a port that a program of somebody else has: refused by number, nothing is left", async () => {
  const port = await freePort();
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  try {
    await expectFailed(launch({ ports: [{ hostPort: port, guestPort: 80 }] }), "port_taken", `Port ${port}`);
    expect((await berthd.client.listInstances({ query: {} })).items).toEqual([]);
  } finally {
    server.close();
  }
});
