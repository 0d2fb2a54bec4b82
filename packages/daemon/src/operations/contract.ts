import { setTimeout as delay } from "node:timers/promises";
import { BerthError, type Operation } from "@berth/api";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { newId } from "../core/ids.ts";
import { readEvents } from "../store/events.ts";
import { readLog } from "../store/operation-log.ts";
import { listOperations, pruneOperations, resourceOf } from "../store/operations.ts";
import { readSetting, writeSetting } from "../store/settings.ts";
import type { Store } from "../store/store.ts";
import { type Claimer, claimNext } from "./claim.ts";
import { type EngineOptions, OperationEngine } from "./engine.ts";
import { createFaultPoints, type FaultPoints, listFaultPoints } from "./fault.ts";
import { FencedError, OperationJournal } from "./journal.ts";
import { cancelOperation, joinOrStart, type StartOperation, startOperation } from "./start.ts";
import { waitForOperation } from "./wait.ts";
import type { EngineLog } from "./worker.ts";
import { inOrder, type Json, type Step, type StepContext, TransientError, type Workflow } from "./workflow.ts";

/** The log of engines whose words nobody reads. */
export const silent: EngineLog = { info: () => undefined, warn: () => undefined, error: () => undefined };
const quick = { limit: 3, baseMs: 2, capMs: 10 };
const never = new AbortController().signal;

/** What the engine must do on every store; `open` opens the same store each time. */
export function describeEngine(name: string, open: () => Promise<Store>): void {
  describe(`operations on ${name}`, () => {
    let store: Store;
    beforeAll(async () => {
      store = await open();
    });
    afterAll(() => store?.close());

    const ask = (type: string, change: Partial<StartOperation> = {}) => {
      const id = newId("instance");
      const target = change.target ?? { kind: "instance", id, name: "web" };
      const claims = [resourceOf("instance", target.id)];
      const request = { type, project: "default", target, claims, input: null, nodeId: null, requestedBy: "test" };
      return store.transaction((tx) => startOperation(tx, { ...request, ...change }));
    };
    const ended = (operation: { readonly id: string }) => waitForOperation(store, operation.id, 20_000, never);
    const eventsOf = async (operation: { readonly id: string }) => {
      const { items } = await readEvents(store.queries, { after: 0, limit: 1000, subject: operation.id });
      return items.map((event) => event.type);
    };

    /** Runs an engine for as long as `work` takes. */
    async function withEngine(
      workflows: readonly Workflow[],
      work: (engine: OperationEngine) => Promise<void>,
      options: Partial<EngineOptions> = {},
    ): Promise<void> {
      const engine = new OperationEngine({
        store,
        workflows,
        nodeId: newId("node"),
        log: silent,
        retry: quick,
        ...options,
      });
      const stop = new AbortController();
      const running = engine.run(stop.signal);
      try {
        await work(engine);
      } finally {
        stop.abort();
        await running;
      }
    }

    test("runs the steps in their order, journals what they leave, and says how far it is", async () => {
      const type = newType();
      const key = newId("token");
      const write = {
        result: { made: 1 },
        write: (tx: Parameters<typeof writeSetting>[0]) => writeSetting(tx, key, "done"),
      };
      const steps: Step[] = [
        {
          name: "first",
          run: async (context) => {
            context.progress(41.6, "downloading");
            context.log("one\ntwo \u001b[31mred\u001b[0m");
            return write;
          },
        },
        { name: "second", run: async ({ journal }) => ({ result: journal.get("first")?.result ?? null }) },
      ];
      const settled: Json[] = [];
      const workflow: Workflow = {
        ...listed(type, steps),
        decide: ({ journal }) => inOrder(steps, journal, journal.get("second")?.result ?? null),
        settle: async (_tx, _operation, outcome) =>
          void settled.push(outcome.status === "succeeded" ? outcome.result : null),
      };
      await withEngine([workflow], async () => {
        const operation = await ended(await ask(type));
        expect(operation).toMatchObject({ status: "succeeded", attempt: 1, error: null, reason: "" });
        expect(operation.steps.map((step) => [step.name, step.status, step.percent, step.detail])).toEqual([
          ["first", "succeeded", 42, "downloading"],
          ["second", "succeeded", null, null],
        ]);
        expect((await readLog(store.queries, operation.id, 0, 10)).map(({ line }) => line)).toEqual(["one", "two red"]);
        expect(await eventsOf(operation)).toEqual(["operation.created", "operation.started", "operation.succeeded"]);
        expect(settled).toEqual([{ made: 1 }]);
        expect(await readSetting(store.queries, key, z.string())).toBe("done");
      });
    });

    test("refuses a second change and names the holder; one that queues waits its turn", async () => {
      const type = newType();
      const order: Json[] = [];
      const steps = [{ name: "only", run: async ({ operation }: StepContext) => void order.push(operation.input) }];
      const first = await ask(type, { input: 1 });
      const { target } = first;
      await expect(ask(type, { target })).rejects.toMatchObject({ code: "busy", extra: { operationId: first.id } });
      const second = await ask(type, { target, input: 2, queue: true });
      const third = await ask(type, { target, input: 3, queue: true });
      expect(second.reason).toContain(first.id);
      await withEngine([listed(type, steps)], async () => {
        for (const operation of [first, second, third]) expect((await ended(operation)).status).toBe("succeeded");
        expect(order).toEqual([1, 2, 3]);
      });
    });

    test("a higher rank cancels the holder, which is undone, and goes before those that wait", async () => {
      const type = newType();
      const order: Json[] = [];
      const steps: Step[] = [
        {
          name: "only",
          run: async ({ operation, signal }) => {
            order.push(operation.input);
            if (operation.input === "holder") await aborted(signal);
            return undefined;
          },
          undo: async ({ operation }) => void order.push(`undo ${operation.input}`),
        },
      ];
      await withEngine([listed(type, steps)], async () => {
        const holder = await ask(type, { input: "holder" });
        const { target } = holder;
        await reached(() => order.length === 1);
        const waiting = await ask(type, { target, input: "waiting", queue: true });
        const forced = await ask(type, { target, input: "forced", rank: 1 });
        await expect(ask(type, { target, rank: 1 })).rejects.toMatchObject({ code: "busy" });
        expect((await ended(waiting)).status).toBe("succeeded");
        expect((await ended(forced)).status).toBe("succeeded");
        expect(await ended(holder)).toMatchObject({ status: "cancelled", error: { code: "cancelled" } });
        expect(order).toEqual(["holder", "undo holder", "forced", "waiting"]);
      });
    });

    test("an operation is cancelled before it began, while it runs, and while it sleeps; not when it has ended", async () => {
      const type = newType();
      const steps = [{ name: "hang", run: ({ signal }: StepContext) => aborted(signal) }];
      const workflow = listed(type, steps);
      const sleeper: Workflow = {
        ...listed(`${type}.sleep`, []),
        decide: ({ now }) => ({ waitUntil: now + 60_000, reason: "sleeps" }),
      };
      const cancel = (operation: Operation) => store.transaction((tx) => cancelOperation(tx, operation.id));
      const early = await ask(type);
      expect((await cancel(early)).status).toBe("cancelling");
      await withEngine([workflow, sleeper], async () => {
        expect(await ended(early)).toMatchObject({ status: "cancelled", steps: [] });
        const running = await ask(type);
        await untilShown(store, running.id, (shown) => shown.steps.length === 1);
        await cancel(running);
        expect(await ended(running)).toMatchObject({ status: "cancelled", steps: [{ status: "failed" }] });
        const sleeping = await ask(sleeper.type);
        await untilShown(store, sleeping.id, (shown) => shown.reason === "sleeps");
        await cancel(sleeping);
        expect((await ended(sleeping)).status).toBe("cancelled");
        await expect(cancel(sleeping)).rejects.toMatchObject({ code: "operation_final" });
        await expect(cancel({ ...sleeping, id: newId("operation") })).rejects.toMatchObject({ code: "not_found" });
      });
    });

    test("a passing failure is tried again, so many times; any other fails at once; both undo what began, last first", async () => {
      const type = newType();
      const undone: string[] = [];
      let tries = 0;
      const run = async ({ operation }: StepContext) => {
        tries += 1;
        if (operation.input === "once" && tries > 1) return undefined;
        if (operation.input === "bug") throw new TypeError("a secret detail");
        throw operation.input === "fatal" ? new BerthError("disk_full", "Full.") : new TransientError("not yet");
      };
      const undo = (name: string) => async () => void undone.push(name);
      const steps: Step[] = [
        { name: "a", run: async () => undefined, undo: undo("a") },
        { name: "b", run, undo: undo("b") },
        { name: "c", run: async () => undefined, undo: undo("c") },
      ];
      await withEngine([listed(type, steps)], async () => {
        expect(await ended(await ask(type, { input: "once" }))).toMatchObject({ status: "succeeded", attempt: 2 });
        expect(undone).toEqual([]);
        tries = 0;
        const spent = await ended(await ask(type, { input: "always" }));
        expect(spent).toMatchObject({ status: "failed", attempt: quick.limit, error: { detail: "not yet" } });
        expect(tries).toBe(quick.limit);
        expect(undone.splice(0)).toEqual(["b", "a"]);
        const fatal = await ended(await ask(type, { input: "fatal" }));
        expect(fatal).toMatchObject({ status: "failed", attempt: 1, error: { code: "disk_full" } });
        expect(fatal.steps.map(({ status }) => status)).toEqual(["undone", "undone"]);
        expect(undone.splice(0)).toEqual(["b", "a"]);
        const bug = await ended(await ask(type, { input: "bug" }));
        expect(bug.error).toMatchObject({ code: "internal" });
        expect(JSON.stringify(bug)).not.toContain("secret");
        expect(await eventsOf(bug)).toContain("operation.failed");
      });
    });

    test("an undo that fails is tried again, then recorded, and does not keep the others from being undone", async () => {
      const type = newType();
      let tries = 0;
      const undone: string[] = [];
      const broken = async () => {
        tries += 1;
        throw new BerthError("host_program_failed", "umount failed");
      };
      const fail = async () => {
        throw new BerthError("internal", "on purpose");
      };
      const outcomes: object[] = [];
      const steps: Step[] = [
        { name: "a", run: async () => undefined, undo: async () => void undone.push("a") },
        { name: "b", run: async () => undefined, undo: broken },
        { name: "c", run: fail },
      ];
      const settle: Workflow["settle"] = async (_tx, _operation, outcome) => void outcomes.push(outcome);
      await withEngine([{ ...listed(type, steps), settle }], async () => {
        const operation = await ended(await ask(type));
        expect(operation.status).toBe("failed");
        expect(operation.steps[1]).toMatchObject({
          status: "succeeded",
          detail: "could not be taken back: umount failed",
        });
        expect([tries, undone]).toEqual([quick.limit, ["a"]]);
        expect(outcomes).toMatchObject([{ status: "failed", kept: false, leftBehind: ["b"] }]);
        expect(await eventsOf(operation)).toContain("operation.undo_failed");
      });
    });

    test("a decision to keep leaves the steps as they are", async () => {
      const type = newType();
      const undone: string[] = [];
      const outcomes: object[] = [];
      const steps: Step[] = [{ name: "a", run: async () => undefined, undo: async () => void undone.push("a") }];
      const workflow: Workflow = {
        ...listed(type, steps),
        decide: ({ journal }) =>
          journal.has("a")
            ? { fail: new BerthError("exited_early", "Gone."), keep: true, result: { code: 7 } }
            : { run: "a" },
        settle: async (_tx, _operation, outcome) => void outcomes.push(outcome),
      };
      await withEngine([workflow], async () => {
        const operation = await ended(await ask(type));
        expect(operation).toMatchObject({
          status: "failed",
          error: { code: "exited_early" },
          steps: [{ status: "succeeded" }],
        });
        expect(undone).toEqual([]);
        expect(outcomes).toMatchObject([{ status: "failed", kept: true, result: { code: 7 } }]);
      });
    });

    test("an end whose rows cannot be written is tried again, all or nothing", async () => {
      const type = newType();
      const key = newId("token");
      let tries = 0;
      const workflow: Workflow = {
        ...listed(type, []),
        settle: async (tx) => {
          await writeSetting(tx, key, ++tries);
          if (tries < 3) throw new Error("on purpose");
        },
      };
      await withEngine([workflow], async () => {
        expect((await ended(await ask(type))).status).toBe("succeeded");
        expect(await readSetting(store.queries, key, z.number())).toBe(3);
      });
    });

    test("sleeps until woken, also when the wake-up comes while it is looking", async () => {
      const type = newType();
      let looks = 0;
      let wakeUp: (() => Promise<void>) | undefined;
      const workflow: Workflow<number> = {
        ...listed(type, []),
        inspect: async () => {
          looks += 1;
          if (looks === 2) await wakeUp?.();
          return looks;
        },
        decide: ({ observed, now }) =>
          observed === 3 ? { done: true } : { waitUntil: now + 60_000, reason: "sleeps" },
      };
      await withEngine([workflow], async (engine) => {
        const operation = await ask(type);
        wakeUp = () => engine.wake(operation.target.id);
        await untilShown(store, operation.id, (shown) => shown.reason === "sleeps");
        await engine.wake(operation.target.id);
        expect(await ended(operation)).toMatchObject({ status: "succeeded", attempt: 1 });
      });
    });

    test("sleeps until a time, to the moment", async () => {
      const type = newType();
      const workflow: Workflow = {
        ...listed(type, []),
        decide: ({ operation, now }) =>
          now >= operation.createdAt + 300 ? { done: true } : { waitUntil: operation.createdAt + 300, reason: "" },
      };
      await withEngine([workflow], async () => {
        const operation = await ended(await ask(type));
        const took = Date.parse(operation.endedAt ?? "") - Date.parse(operation.createdAt);
        expect(took).toBeGreaterThanOrEqual(300);
        // Without a look at that time the next one would be the heartbeat's, or none.
        expect(took).toBeLessThan(4000);
      });
    });

    test("two that need the same share the work, and are woken by its end", async () => {
      const shared = newType();
      const needing = newType();
      const digest = newId("image");
      let builds = 0;
      const build = async () => {
        builds += 1;
        await delay(20);
        return undefined;
      };
      const request = {
        type: shared,
        project: "default",
        target: { kind: "image", id: digest, name: "nginx" },
        claims: [resourceOf("image", digest)],
        input: null,
        nodeId: null,
        requestedBy: "test",
      };
      const join = () => store.transaction((tx) => joinOrStart(tx, request));
      const needs: Workflow<Operation | undefined> = {
        ...listed(needing, []),
        inspect: ({ input }) => waitForOperation(store, String(input), 0, never),
        decide: ({ observed, now }) =>
          observed?.endedAt
            ? { done: true }
            : { waitUntil: now + 60_000, reason: "waits", operationId: observed?.id ?? "" },
      };
      const joined = await Promise.all([join(), join(), join()]);
      expect(new Set(joined.map(({ operation }) => operation.id)).size).toBe(1);
      expect(joined.filter((one) => one.joined)).toHaveLength(2);
      const waiting = await Promise.all(joined.map(({ operation }) => ask(needing, { input: operation.id })));
      await withEngine([listed(shared, [{ name: "build", run: build }]), needs], async () => {
        for (const operation of waiting) expect((await ended(operation)).status).toBe("succeeded");
      });
      expect(builds).toBe(1);
      expect((await join()).joined).toBe(false);
    });

    test("shutting down gives operations back at once, unharmed", async () => {
      const type = newType();
      let began = 0;
      let hang = true;
      const undone: string[] = [];
      const steps: Step[] = [
        {
          name: "a",
          run: async ({ signal }) => {
            began += 1;
            if (hang) await aborted(signal);
            return undefined;
          },
          undo: async () => void undone.push("a"),
        },
      ];
      const operation = await ask(type);
      await withEngine([listed(type, steps)], () => reached(() => began === 1));
      hang = false;
      await withEngine([listed(type, steps)], async () => {
        expect(await ended(operation)).toMatchObject({ status: "succeeded", attempt: 2 });
      });
      expect(undone).toEqual([]);
    });

    test("an operation bound to a node waits for it; any other is taken over when its lease has run out", async () => {
      const type = newType();
      const [dead, alive] = [newId("node"), newId("node")];
      const claimer = (nodeId: string): Claimer => ({ nodeId, types: [type], leaseMs: 60_000 });
      const bound = await ask(type, { nodeId: dead });
      const free = await ask(type);
      for (const expected of [bound, free]) expect((await claimNext(store, claimer(dead)))?.id).toBe(expected.id);
      expect(await claimNext(store, claimer(alive))).toBeUndefined();
      const soon = sql<number>`berth_now() + 300`;
      await store.queries.updateTable("operation").set({ lease_until: soon }).where("type", "=", type).execute();
      await withEngine(
        [listed(type, [])],
        async () => {
          expect(await ended(free)).toMatchObject({ status: "succeeded", attempt: 2 });
          expect((await waitForOperation(store, bound.id, 300, never)).status).toBe("running");
        },
        { nodeId: alive },
      );
      await withEngine([listed(type, [])], async () => void (await ended(bound)), { nodeId: dead });
    });

    test("who has lost an operation is stopped, and writes nothing more", async () => {
      const type = newType();
      let lost: unknown;
      let stolen: { readonly attempt: number } | undefined;
      const steps: Step[] = [
        {
          name: "a",
          run: async ({ operation, signal }) => {
            if (stolen) return { result: "second" };
            // Another daemon claims it, as if this one had been silent for longer than its lease; unless this one's heartbeat is quicker.
            const expire = () =>
              store.queries.updateTable("operation").set({ lease_until: 1 }).where("id", "=", operation.id).execute();
            const thief = { nodeId: newId("node"), types: [type], leaseMs: 60_000 };
            while (!stolen && !signal.aborted) {
              await expire();
              const row = await claimNext(store, thief);
              stolen ??= row;
            }
            await aborted(signal).catch(() => {
              lost = signal.reason;
            });
            // The other one falls silent only now, so however slow all this is, it was the other's until the loss was noticed.
            await expire();
            return { result: "first" };
          },
        },
      ];
      const workflow: Workflow = {
        ...listed(type, steps),
        decide: ({ journal }) => inOrder(steps, journal, journal.get("a")?.result),
      };
      let result: Json = null;
      const settling: Workflow = {
        ...workflow,
        settle: async (_tx, _operation, outcome) => {
          result = outcome.status === "succeeded" ? outcome.result : null;
        },
      };
      await withEngine(
        [settling],
        async () => {
          const operation = await ended(await ask(type));
          expect(operation.status).toBe("succeeded");
          expect(operation.attempt).toBeGreaterThan(stolen?.attempt ?? Number.POSITIVE_INFINITY);
        },
        { leaseMs: 900 },
      );
      expect(lost).toBeInstanceOf(FencedError);
      expect(result).toBe("second");
    });

    test("an old fence is refused whatever it writes", async () => {
      const type = newType();
      const operation = await ask(type);
      const claimer = { nodeId: newId("node"), types: [type], leaseMs: 60_000 };
      const row = await claimNext(store, claimer);
      const old = new OperationJournal(store, { id: operation.id, fence: (row?.fence ?? 0) - 1 });
      const ending = {
        status: "failed",
        problem: { type: "", title: "", status: 500, code: "internal", detail: "", hint: "" },
        kept: false,
        result: null,
      } as const;
      const writes = [
        () => old.read(),
        () => old.beginStep("a"),
        () => old.endStep("a", undefined),
        () => old.retryStep("a", 1, "", 0),
        () => old.retry(1, "", 0),
        () => old.release(),
        () => old.sleep(0, "", 0, undefined),
        () => old.setEnding(ending),
        () => old.endUndo("a"),
        () => old.failUndo("a", 1, "", undefined),
        () => old.settle({ status: "succeeded", result: null }, async () => undefined),
      ];
      for (const write of writes) await expect(write()).rejects.toBeInstanceOf(FencedError);
      await new OperationJournal(store, { id: operation.id, fence: row?.fence ?? 0 }).settle(
        { status: "succeeded", result: null },
        async () => undefined,
      );
    });

    test("a step that began is undone after a restart too, with the error it failed with", async () => {
      const type = newType();
      const undone: number[] = [];
      let hang = true;
      const fail = async () => {
        throw new BerthError("port_taken", "Port 80.");
      };
      const undo = async ({ signal, operation }: StepContext) => {
        undone.push(operation.attempt);
        if (hang) await aborted(signal);
      };
      const steps: Step[] = [{ name: "a", run: fail, undo }];
      const operation = await ask(type);
      await withEngine([listed(type, steps)], () => reached(() => undone.length === 1));
      hang = false;
      await withEngine([listed(type, steps)], async () => {
        const error = { code: "port_taken", detail: "Port 80." };
        expect(await ended(operation)).toMatchObject({ status: "failed", error, steps: [{ status: "undone" }] });
      });
      expect(undone).toEqual([1, 2]);
    });

    test("every fault point there is is passed, and no other", async () => {
      const type = newType();
      const passed = new Set<string>();
      const faults: FaultPoints = { pass: async (point) => void passed.add(point) };
      const undo = async () => undefined;
      const steps: Step[] = [
        { name: "a", run: async () => undefined, undo },
        { name: "b", run: async () => undefined },
        {
          name: "c",
          run: async ({ operation }) => (operation.input ? Promise.reject(new BerthError("internal", "x")) : undefined),
          undo,
        },
      ];
      await withEngine(
        [listed(type, steps)],
        async () => {
          await ended(await ask(type));
          await ended(await ask(type, { input: "fail" }));
        },
        { faults },
      );
      expect([...passed].sort()).toEqual(listFaultPoints([listed(type, steps)]).sort());
    });

    test("a fault can fail a step, make it stumble, or hold it until it is cancelled; once", async () => {
      const type = newType();
      const workflow = listed(type, [{ name: "a", run: async () => undefined }]);
      const withFault = (setting: string, work: () => Promise<void>) =>
        withEngine([workflow], work, { faults: createFaultPoints(setting) });
      await withFault(`fail:${type}/a/after`, async () => {
        expect((await ended(await ask(type))).status).toBe("failed");
        expect((await ended(await ask(type))).status).toBe("succeeded");
      });
      await withFault(`flake:${type}/a/before`, async () => {
        expect(await ended(await ask(type))).toMatchObject({ status: "succeeded", attempt: 2 });
      });
      await withFault(`flake:${type}/settle/before`, async () => {
        expect((await ended(await ask(type))).status).toBe("succeeded");
      });
      await withFault(`pause:${type}/a/before`, async () => {
        const operation = await ask(type);
        await untilShown(store, operation.id, (shown) => shown.steps.length === 1);
        await store.transaction((tx) => cancelOperation(tx, operation.id));
        expect((await ended(operation)).status).toBe("cancelled");
      });
    });

    test("a log that floods keeps its beginning and its end", async () => {
      const type = newType();
      const run = async ({ log }: StepContext) => {
        for (let line = 1; line <= 50_000; line++) log(`line ${line}`);
        return undefined;
      };
      await withEngine([listed(type, [{ name: "flood", run }])], async () => {
        const operation = await ended(await ask(type));
        const lines = await readLog(store.queries, operation.id, 0, 10_000);
        expect(lines).toHaveLength(5000);
        expect(lines[999]).toEqual({ seq: 1000, line: "line 1000" });
        expect(lines[1000]).toEqual({ seq: 46_001, line: "line 46001" });
        expect(lines.at(-1)).toEqual({ seq: 50_000, line: "line 50000" });
      });
    });

    test("lists pages of operations with their steps, and forgets those that ended long ago", async () => {
      const type = newType();
      const target = { kind: "instance", id: newId("instance"), name: "web" };
      const steps = [{ name: "a", run: async () => undefined }];
      const asked = [await ask(type, { target }), await ask(type, { target, queue: true })];
      const list = (change: object) => listOperations(store.queries, { target: target.id, limit: 1, ...change });
      expect((await list({ unfinished: true, limit: 5 })).rows).toHaveLength(2);
      await withEngine([listed(type, steps)], async () => void (await Promise.all(asked.map(ended))));
      const first = await list({ project: "default", status: "succeeded" });
      const second = await list({ cursor: first.nextCursor });
      expect([...first.rows, ...second.rows].map(({ id }) => id)).toEqual(asked.map(({ id }) => id).toReversed());
      expect(second).toMatchObject({ nextCursor: null, rows: [{ steps: [{ name: "a", status: "succeeded" }] }] });
      expect((await list({ unfinished: true })).rows).toEqual([]);
      await pruneOperations(store.queries, Date.parse(second.rows[0]?.endedAt ?? "") + 1);
      expect((await list({ limit: 5 })).rows.map(({ id }) => id)).not.toContain(second.rows[0]?.id);
    });

    test("no more run at once than there are slots", async () => {
      const type = newType();
      let now = 0;
      let most = 0;
      const run = async () => {
        now += 1;
        most = Math.max(most, now);
        await reached(() => most >= 3);
        await delay(5);
        now -= 1;
        return undefined;
      };
      const operations = await Promise.all(Array.from({ length: 12 }, () => ask(type)));
      await withEngine(
        [listed(type, [{ name: "a", run }])],
        async () => void (await Promise.all(operations.map(ended))),
        { slots: 3 },
      );
      expect(most).toBe(3);
    });
  });
}

/** A type of its own for each test, so that engines of other tests leave its operations alone. */
function newType(): string {
  return `toy.${newId("operation")}`;
}

/** A workflow that is a plain list of steps. */
export function listed(type: string, steps: readonly Step[]): Workflow<never> & Workflow {
  return {
    type,
    steps,
    inspect: async () => undefined as never,
    decide: ({ journal }: { journal: Parameters<typeof inOrder>[1] }) => inOrder(steps, journal),
  };
}

/** Rejects as soon as the signal says so. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

async function reached(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(2);
}

async function untilShown(store: Store, id: string, condition: (operation: Operation) => boolean): Promise<void> {
  while (!condition(await waitForOperation(store, id, 0, never))) await delay(2);
}
