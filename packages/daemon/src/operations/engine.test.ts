import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { newId } from "../core/ids.ts";
import { openStore } from "../store/store.ts";
import { timeToNext } from "./claim.ts";
import { describeEngine, listed, silent } from "./contract.ts";
import { OperationEngine } from "./engine.ts";
import { startOperation } from "./start.ts";
import { waitForOperation } from "./wait.ts";
import type { Step } from "./workflow.ts";

const folder = await scratchDirectory("engine");
describeEngine("SQLite", () => openStore({ kind: "sqlite", path: join(folder, "berth.db") }));

test("a clock that jumps beyond the leases makes nothing run twice at once", async () => {
  let jumpMs = 0;
  const path = join(folder, "jumps.db");
  const store = await openStore({ kind: "sqlite", path }, { clock: () => Date.now() + jumpMs });
  const [began, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let runs = 0;
  const hold: Step = {
    name: "hold",
    run: async ({ signal }) => {
      runs += 1;
      began.resolve();
      await release.promise;
      signal.throwIfAborted();
      return undefined;
    },
  };
  const workflows = [listed("toy.hold", [hold]), listed("toy.quick", [])];
  const claimer = { nodeId: newId("node"), types: workflows.map(({ type }) => type), leaseMs: 15_000 };
  const engine = new OperationEngine({ ...claimer, store, workflows, log: silent });
  const stop = new AbortController();
  const running = engine.run(stop.signal);
  const ask = (type: string) => {
    const target = { kind: "instance", id: newId("instance"), name: "web" };
    const request = { type, project: "default", target, claims: [], input: null, nodeId: null, requestedBy: "test" };
    return store.transaction((tx) => startOperation(tx, request));
  };
  const ended = ({ id }: { readonly id: string }) => waitForOperation(store, id, 20_000, stop.signal);
  try {
    const held = await ask("toy.hold");
    await began.promise;
    jumpMs = 60_000;
    // The older is claimed first: once the younger has ended, the engine has looked for work since the clock jumped.
    expect((await ended(await ask("toy.quick"))).status).toBe("succeeded");
    expect(runs).toBe(1);
    // Nor does it make the engine look again and again until the lease has been prolonged.
    expect(await timeToNext(store, claimer, [held.id])).toBeUndefined();
    release.resolve();
    expect(await ended(held)).toMatchObject({ status: "succeeded", attempt: 1 });
  } finally {
    release.resolve();
    stop.abort();
    await running;
    await store.close();
  }
});
