import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Client, Operation } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { listFaultPoints } from "../../packages/daemon/src/operations/fault.ts";
import { allWorkflows } from "../../packages/daemon/src/workflows/index.ts";
import type { Services } from "../../packages/daemon/src/workflows/services.ts";
import { audit } from "../faults/audit.ts";
import { type Scenario, scenarioOf } from "../faults/scenarios.ts";
import { startDaemonHere } from "../support/daemon-here.ts";
import { eventually } from "../support/eventually.ts";
import { expectProblem } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";

/** Steps are only named here, never run: what they would work with is not needed. */
const nobody = new Proxy({}, { get: () => undefined }) as Services;
/** What is taken back, and what has ended, cannot be cancelled. */
const points = listFaultPoints(allWorkflows(nobody)).filter((point) => !/\/(undo|settle)\//.test(point));

/** What asks for something new or starts it: tried with every `npm test`, the others with the long tests. */
export const beginnings = /^(image[.](pull|build|promote)|instance[.](create|start|export|import))[/]/;

let registry: FakeRegistry;
let scratch: string;
let context: string;
let env: Record<string, string>;
let image: string;

async function prepare(): Promise<void> {
  registry = await startFakeRegistry();
  scratch = await scratchDirectory("cnc");
  registry.addImage("known", "latest", [writeTar([{ path: "f", content: Buffer.from("file") }])], {
    config: { Cmd: ["/f"] },
  });
  registry.addImage("volumes", "latest", [writeTar([{ path: "f", content: Buffer.from("file") }])], {
    config: { Cmd: ["/f"], Volumes: { "/data": {} } },
  });
  image = `${registry.host}/known`;
  context = join(scratch, "context");
  mkdirSync(context);
  writeFileSync(join(context, "file"), "file");
  writeFileSync(join(context, "Dockerfile"), "FROM scratch\nCOPY file /\n");
  env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: registry.host };
  await using berthd = await startDaemonHere({ dataDir: join(scratch, "pulled"), env });
  const { operation } = await berthd.client.pullImage({ query: { wait: 60 }, body: { reference: image } });
  expect(operation.error).toBeNull();
}

/** A data folder of its own for each point, so that a failure is that point's alone. */
function freshFolder(point: string): string {
  const dataDir = join(scratch, point.replaceAll("/", "-"));
  // Unlike Node's own copy this one leaves holes as holes: file systems of images are mostly that.
  execFileSync("cp", ["-a", "--sparse=always", join(scratch, "pulled"), dataDir]);
  return dataDir;
}

/** The operation that stands at the point, once it does. */
async function pausedAt(client: Client, point: string, said: () => string): Promise<Operation> {
  const [type, step] = point.split("/");
  await eventually(() => expect(said()).toMatch(new RegExp(`"point":"${point}".*"paused"`)));
  const { items } = await client.listOperations({ query: { unfinished: true } });
  const stands = items.filter(
    (one) => one.type === type && one.steps.some(({ name, status }) => name === step && status === "running"),
  );
  expect(stands).toHaveLength(1);
  return stands[0] as Operation;
}

/**
 * Whether all is in order when what passes the point was given up there. What was deleted by then does not come back: the rest goes when it is asked for again. A pool
 * is filled again by itself. And the scenario put out of order what some steps mend.
 */
function isWhole(point: string): boolean {
  const isMended = /^instance[.](start|restart|restore|rebuild)[/](realise-image|create-machine|drop-memory)[/]before$/;
  return !/^[^/]+[.]delete[/]|^pool-member[.]/.test(point) && !isMended.test(point);
}

/** Pools are filled and emptied, and whom nobody needs falls asleep, without anybody asking: again when their time has come. */
const byItself = /^pool-member[.]|^instance[.]suspend[/]give-back-ports[/]/;

/** A restore or rebuild that has stopped its instance leaves it off, and one that has begun to replace its disks is carried out: who asks again finds another state than before. */
const isElsewhere = /^instance[.](restore|rebuild)[/]/;

/** Asks again; what was deleted all the same is not there any more. */
async function askAgain({ act }: Scenario, client: Client, point: string): Promise<unknown> {
  return act(client).catch((error: { code?: unknown }) => {
    if (error.code !== "not_found" || !point.startsWith("snapshot.delete/collect-layers/")) throw error;
  });
}

/** Cancels operations at those of the points between their steps that are chosen. */
export function cancelAt(isChosen: (point: string) => boolean): void {
  beforeAll(prepare);
  afterAll(() => registry?.[Symbol.asyncDispose]());

  describe.each(points.filter(isChosen))("cancelled at %s", (point) => {
    it("ends, with nothing left, and can be asked for again", async () => {
      const dataDir = freshFolder(point);
      const scenario = scenarioOf(point, { image, context, dataDir });
      let asked: Promise<unknown> = Promise.resolve();
      {
        await using berthd = await startDaemonHere({ dataDir, env: { ...env, BERTH_FAULT: `pause:${point}` } });
        const { client } = berthd;
        await scenario.arrange(client);
        // Who asked hears of the end in its own way.
        asked = scenario.act(client).catch(() => undefined);
        const { id } = await pausedAt(client, point, berthd.log);
        await client.cancelOperation({ params: { operation: id } });
        const ended = await client.waitOperation({ params: { operation: id }, query: { timeout: 60 } });
        expect(ended.status).toBe("cancelled");
        expectProblem(ended.error, "cancelled", "was cancelled");
        await settled(client);
        // What was done of the step it stood in shows once the controller has looked.
        if (isWhole(point)) await eventually(() => audit(client, dataDir));
        if (!byItself.test(point)) {
          const again = await askAgain(scenario, client, point);
          await settled(client);
          if (isElsewhere.test(point)) expect(again).toMatchObject({ operation: { status: "succeeded" } });
          else await scenario.check(client);
        }
        await scenario.cleanUp(client);
        await audit(client, dataDir);
      }
      await asked;
      rmSync(dataDir, { recursive: true });
    });
  });
}
