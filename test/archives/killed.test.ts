import { createHash } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startBerthd } from "../support/berthd.ts";
import { berthOf } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { fakeBerthd, image } from "./fake-world.ts";

const long = { wait: 60 } as const;

test("berthd killed in the middle of an upload and of a download loses nothing of them; the same command goes on", async () => {
  const scratch = await scratchDirectory("killed");
  const dataDir = join(scratch, "data");
  const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn" };
  const file = join(scratch, "web.berth");
  let half = 0;
  let whole: Buffer;
  {
    await using berthd = await fakeBerthd(scratch);
    const { client } = berthd;
    const body = { image, name: "web", start: false };
    await client.createInstance({ query: long, body });
    const { archive } = await client.exportInstance({ params: { instance: "web" }, query: long });
    const content = await client.readArchive({ params: { archive: archive.id } });
    whole = Buffer.from(await new Response(content).arrayBuffer());
    half = 65_536 + Math.floor((whole.length - 65_536) / 2);
    // As far as a client got before the connection broke.
    writeFileSync(`${file}.part`, whole.subarray(0, half));

    writeFileSync(join(scratch, "sent.berth"), whole);
    const beginning = createHash("sha256").update(whole.subarray(0, 65_536)).digest("hex");
    const announced = await client.createArchive({ body: { name: "sent.berth", sizeBytes: whole.length, beginning } });
    const params = { archive: announced.id };
    const arrived = Promise.withResolvers<void>();
    const never = Promise.withResolvers<void>();
    const slow = async function* () {
      yield whole.subarray(0, half);
      arrived.resolve();
      await never.promise;
    };
    const sending = client.writeArchive({ params, body: slow() }).catch((error: Error) => error);
    await arrived.promise;
    await expect.poll(async () => (await client.getArchive({ params })).receivedBytes).toBe(half);
    await berthd.kill();
    never.resolve();
    expect(await sending).toBeInstanceOf(Error);
  }
  await using berthd = await startBerthd({ dataDir, env });
  const cli = berthOf(berthd);
  const down = await cli.run(["export", "web", "-o", file]);
  expect(down, down.stderr).toMatchObject({ code: 0, stdout: `${file}\n` });
  expect(down.stderr).toContain("Going on with");
  expect(readFileSync(file).equals(whole)).toBe(true);

  const up = await cli.run(["import", join(scratch, "sent.berth"), "--name", "again"]);
  expect(up, up.stderr).toMatchObject({ code: 0, stdout: "again\n" });
  expect(up.stderr).toContain("have arrived");
  const again = await berthd.client.getInstance({ params: { instance: "again" } });
  expect(again.status).toMatchObject({ phase: "running", ready: true });
  expect(statSync(join(dataDir, "instances", again.id, "vm/root.qcow2")).size).toBeGreaterThan(0);
  await cli.berth("rm", "--force", "again");
});
