import { get } from "node:http";
import { syncBuiltinESMExports } from "node:module";
import os from "node:os";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { startDaemonHere } from "../support/daemon-here.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { audit } from "./audit.ts";

const hostname = os.hostname;

/** Renames the host for what runs in this process: really, it takes root. */
function renameHost(to: () => string): void {
  os.hostname = to;
  syncBuiltinESMExports();
}

afterEach(() => renameHost(hostname));

const long = { wait: 60 } as const;
const params = { instance: "web" };

/** What a request is answered whose `Host` is that name. */
function statusFor(url: string, name: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get(`${url}/api/v1/nodes`, { agent: false, headers: { host: name } }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    }).on("error", reject);
  });
}

it("leaves its node its name, whose instances are stopped, started and removed as before", async () => {
  await using registry = await startFakeRegistry();
  registry.addImage("app", "latest", [writeTar([{ path: "f", content: "x" }])], { config: { Cmd: ["/f"] } });
  const options = {
    dataDir: join(await scratchDirectory("renamed"), "data"),
    env: { BERTH_DRIVER: "fake", BERTH_ALLOW_HOSTS: registry.host },
  };
  renameHost(() => "first.example");
  {
    await using berthd = await startDaemonHere(options);
    const body = { name: "web", image: `${registry.host}/app` };
    expect((await berthd.client.createInstance({ query: long, body })).operation.error).toBeNull();
  }
  renameHost(() => "second.example");
  await using berthd = await startDaemonHere(options);
  const { client } = berthd;
  expect((await client.getInstance({ params })).location).toBe("first/fake");
  expect((await client.stopInstance({ params, query: long })).operation.error).toBeNull();
  expect((await client.startInstance({ params, query: long })).operation.error).toBeNull();
  expect((await client.getInstance({ params })).status.phase).toBe("running");
  expect((await client.deleteInstance({ params, query: { ...long, force: true } })).operation.error).toBeNull();
  await audit(client, options.dataDir);
  // People reach it by the name it has now.
  expect(await statusFor(berthd.url, "second.example")).toBe(401);
  expect(await statusFor(berthd.url, "first.example")).toBe(421);
  expect(berthd.log()).toContain("the node keeps its name");
});
