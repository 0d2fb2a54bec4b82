import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { startBerthd } from "../support/berthd.ts";
import { scratchDirectory } from "../support/scratch.ts";

it("is pulled as the user that the node's file names, whom no answer and no log tells", async () => {
  await using registry = await startFakeRegistry();
  registry.addImage("team/app", "latest", [writeTar([{ path: "f", content: "private" }])]);
  const auth = Buffer.from("ada:passphrase").toString("base64");
  let refused = 0;
  registry.intercept = (request, response) => {
    if (request.url === "/v2/" || request.headers.authorization === `Basic ${auth}`) return false;
    refused += 1;
    response.writeHead(401, { "www-authenticate": 'Basic realm="private"' }).end();
    return true;
  };
  const folder = await scratchDirectory("private");
  const file = join(folder, "auth.json");
  await writeFile(file, JSON.stringify({ auths: { [registry.host]: { auth } } }));
  await chmod(file, 0o600);
  const reference = `${registry.host}/team/app`;
  const settings = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "trace", BERTH_ALLOW_HOSTS: registry.host };

  const knowing = await startBerthd({
    dataDir: join(folder, "knowing"),
    env: { ...settings, BERTH_REGISTRY_AUTH: file },
  });
  const pulled = await knowing.client.pullImage({ query: { wait: 60 }, body: { reference } });
  expect(pulled.operation).toMatchObject({ status: "succeeded" });
  expect(refused).toBeGreaterThan(0);
  const params = { operation: pulled.operation.id };
  const told = [
    JSON.stringify(pulled),
    await text(await knowing.client.operationLog({ params, query: {} })),
    knowing.log(),
  ];
  await knowing.stop();
  for (const secret of ["passphrase", auth]) expect(told.join()).not.toContain(secret);

  const stranger = await startBerthd({ dataDir: join(folder, "stranger"), env: settings });
  const left = await stranger.client.pullImage({ query: { wait: 60 }, body: { reference } });
  expect(left.operation).toMatchObject({ status: "failed", error: { code: "image_not_found" } });
  await stranger.stop();
});
