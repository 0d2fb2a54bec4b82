import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { identifyProcess } from "../../packages/daemon/src/host/processes.ts";
import { startBerthd } from "../support/berthd.ts";
import { berthOf } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";

const fake = { BERTH_DRIVER: "fake" };

test("a killed berthd's token reaches nobody who has its address now; whoever is taken for it would get it", async () => {
  const dataDir = join(await scratchDirectory("token"), "data");
  await using berthd = await startBerthd({ dataDir, env: fake });
  await berthd.kill();
  const shown: (string | undefined)[] = [];
  await using other = createServer(({ headers }, answer) => {
    shown.push(headers.authorization);
    answer.setHeader("content-type", "application/json").end("{}");
  });
  await new Promise<void>((resolve) => other.listen(Number(new URL(berthd.url).port), "127.0.0.1", resolve));

  const { run } = berthOf(berthd);
  // What a person at this machine has: no settings but the data folder.
  const here = { env: { BERTH_URL: "", BERTH_TOKEN: "", BERTH_DATA_DIR: dataDir } };
  const refused = await run(["ls"], here);
  expect(refused).toMatchObject({ code: 1, stdout: "" });
  expect(refused.stderr).toContain(`No berthd is up that works in ${dataDir}.`);
  expect(shown).toEqual([]);

  const listen = join(dataDir, "listen");
  const left = readFileSync(listen, "utf8");
  writeFileSync(listen, JSON.stringify({ ...JSON.parse(left), process: identifyProcess(process.pid) }));
  await run(["ls"], here);
  expect(shown.splice(0)).toEqual([`Bearer ${berthd.token}`]);
  writeFileSync(listen, left);

  expect(await run(["purge", "--yes"], here)).toMatchObject({ code: 0 });
  expect(shown).toEqual([]);
  expect(existsSync(dataDir)).toBe(false);
});

test("a berthd that ends says so before another can have its address", async () => {
  const dataDir = join(await scratchDirectory("token"), "data");
  await using berthd = await startBerthd({ dataDir, env: fake });
  const port = Number(new URL(berthd.url).port);
  const ending = berthd.stop();
  while (await answers(port));
  expect(existsSync(join(dataDir, "listen"))).toBe(false);
  await ending;
});

/** Whether somebody listens there. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
