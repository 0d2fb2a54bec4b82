import { appendFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BerthError } from "@berth/api";
import { OperationEngine } from "../../packages/daemon/src/operations/engine.ts";
import { createFaultPoints } from "../../packages/daemon/src/operations/fault.ts";
import { inOrder, type Step, TransientError, type Workflow } from "../../packages/daemon/src/operations/workflow.ts";
import { openStore, type StoreLocation } from "../../packages/daemon/src/store/store.ts";

/** What a toy daemon is told on its command line, as JSON. */
export interface ToyDaemonSettings {
  readonly location: StoreLocation;
  /** The folder its steps leave their marks in. */
  readonly world: string;
  readonly nodeId: string;
  readonly leaseMs: number;
  /** As BERTH_FAULT. */
  readonly fault?: string;
}

export const toySteps = ["one", "two", "three", "four"];

/** A daemon with an engine and nothing else: each step makes a folder in the world, and undoing it removes the folder. For being killed by tests. */
async function runToyDaemon(settings: ToyDaemonSettings): Promise<void> {
  const store = await openStore(settings.location);
  const workflow = toyWorkflow(settings.world);
  const engine = new OperationEngine({
    store,
    workflows: [workflow],
    nodeId: settings.nodeId,
    leaseMs: settings.leaseMs,
    retry: { limit: 50, baseMs: 5, capMs: 50 },
    faults: createFaultPoints(settings.fault),
    log: { info: () => undefined, warn: () => undefined, error: console.error },
  });
  process.stdout.write("ready\n");
  await engine.run(new AbortController().signal);
}

export function toyWorkflow(world: string): Workflow {
  const note = (line: string) => appendFileSync(join(world, "log"), `${line}\n`);
  const steps = toySteps.map((name): Step => {
    const markOf = (id: string) => join(world, `${id}.${name}`);
    return {
      name,
      run: async ({ operation, signal }) => {
        note(`run ${operation.id} ${name}`);
        await delay(Math.random() * 20, undefined, { signal });
        if (Math.random() < 0.05) throw new TransientError("stumbled");
        if (!existsSync(markOf(operation.id))) {
          mkdirSync(markOf(operation.id));
          note(`made ${operation.id} ${name}`);
        }
        if (operation.input === name) throw new BerthError("internal", "on purpose");
        return undefined;
      },
      undo: async ({ operation }) => {
        note(`undo ${operation.id} ${name}`);
        rmSync(markOf(operation.id), { recursive: true, force: true });
      },
    };
  });
  return {
    type: "toy",
    steps,
    inspect: async () => undefined,
    decide: ({ journal }) => inOrder(steps, journal),
    settle: async (_tx, operation, outcome) => note(`${outcome.status} ${operation.id}`),
  };
}

const [, script, text] = process.argv;
if (script === import.meta.filename && text) await runToyDaemon(JSON.parse(text) as ToyDaemonSettings);
