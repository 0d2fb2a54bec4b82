import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { newId } from "../core/ids.ts";
import { readClaims } from "../store/operation-claims.ts";
import { readOperation } from "../store/operations.ts";
import { openStore, type Store } from "../store/store.ts";
import { checkLeases, claimNext } from "./claim.ts";
import { FencedError, OperationJournal } from "./journal.ts";
import { cancelOperation, startOperation } from "./start.ts";

let store: Store;
let now = 1_000_000;

beforeAll(async () => {
  const path = join(await scratchDirectory("claim"), "berth.db");
  store = await openStore({ kind: "sqlite", path }, { clock: () => now });
});
afterAll(() => store?.close());

const leaseMs = 100;
const request = { project: "default", input: null, requestedBy: "test", nodeId: null };
const target = { kind: "toy", id: "x", name: "x" };

/** What the model does: two workers of two nodes, a clock that jumps, one operation at most claimed by each. */
type Move =
  | { readonly do: "pass"; readonly ms: number }
  | { readonly do: "claim" | "prolong" | "write" | "release"; readonly worker: 0 | 1 };

const moves: fc.Arbitrary<Move> = fc.oneof(
  fc.record({ do: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 150 }) }),
  fc.record({
    do: fc.constantFrom("claim" as const, "prolong" as const, "write" as const, "release" as const),
    worker: fc.constantFrom(0 as const, 1 as const),
  }),
);

test("a lease and its fence: who holds it can write, nobody else can", async () => {
  const nodes = ["n-a", "n-b"];
  await fc.assert(
    fc.asyncProperty(fc.array(moves, { maxLength: 25 }), async (all) => {
      const type = newId("operation");
      const { id } = await store.transaction((tx) => startOperation(tx, { ...request, type, target, claims: [] }));
      /** What each worker believes it holds. */
      const fences: (number | undefined)[] = [undefined, undefined];
      /** What is true. */
      let current = { fence: 0, until: 0 };
      for (const move of all) {
        if (move.do === "pass") {
          now += move.ms;
          continue;
        }
        const { worker } = move;
        const lease = { id, fence: fences[worker] ?? -1 };
        const journal = new OperationJournal(store, lease);
        // A lease that has run out still stands until somebody else takes it: no harm can come of that.
        const owns = lease.fence === current.fence && current.until > 0;
        if (move.do === "claim") {
          const row = await claimNext(store, { nodeId: nodes[worker] ?? "", types: [type], leaseMs });
          expect(row !== undefined).toBe(current.until <= now);
          if (!row) continue;
          expect(row.fence).toBe(current.fence + 1);
          current = { fence: row.fence, until: now + leaseMs };
          fences[worker] = row.fence;
        } else if (move.do === "prolong") {
          const states = await checkLeases(store, [lease], leaseMs);
          expect(states.has(id)).toBe(owns);
          if (owns) current = { ...current, until: now + leaseMs };
        } else {
          const error = await (move.do === "write" ? journal.beginStep("a") : journal.release()).catch(
            (caught) => caught,
          );
          expect(error instanceof FencedError).toBe(!owns);
          if (owns && move.do === "release") current = { ...current, until: 0 };
        }
      }
      await store.queries.deleteFrom("operation").where("id", "=", id).execute();
    }),
    { numRuns: 60 },
  );
});

const resources = ["r1", "r2", "r3"];

/** Operations are asked for, cancelled and carried out in any order. */
const requests = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant("ask" as const),
        claims: fc.subarray(resources, { minLength: 1 }),
        rank: fc.integer({ min: 0, max: 2 }),
        queue: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("finish" as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("cancel" as const), which: fc.nat(20) }) },
  ),
  { maxLength: 30 },
);

test("resources have one holder at a time, go by rank and age, and everything asked for comes to its end", async () => {
  await fc.assert(
    fc.asyncProperty(requests, async (all) => {
      const type = newId("operation");
      const claimer = { nodeId: "n-a", types: [type], leaseMs };
      const asked: { id: string; rank: number; claims: readonly string[] }[] = [];
      const finished = new Set<string>();
      const finishNext = async () => {
        const row = await claimNext(store, claimer);
        if (!row) return false;
        const journal = new OperationJournal(store, { id: row.id, fence: row.fence });
        const mine = asked.findIndex(({ id }) => id === row.id);
        if (row.cancel_requested === 0) {
          // Whoever was asked before, has no lower rank and wants one of its resources must have gone before it.
          for (const [index, other] of asked.entries()) {
            const shares = other.claims.some((claim) => asked[mine]?.claims.includes(claim));
            const before = other.rank > row.rank || (other.rank === row.rank && index < mine);
            if (shares && before && index !== mine) expect(finished.has(other.id)).toBe(true);
          }
        }
        await journal.settle({ status: "succeeded", result: null }, async () => undefined);
        finished.add(row.id);
        return true;
      };
      for (const move of all) {
        if (move.do === "finish") await finishNext();
        else if (move.do === "cancel") {
          const one = asked[move.which];
          if (one && !finished.has(one.id)) await store.transaction((tx) => cancelOperation(tx, one.id));
        } else {
          const before = await readClaims(store.queries, move.claims);
          const inTheWay = before.some((claim) => claim.rank >= move.rank) && !move.queue;
          const { claims, rank, queue } = move;
          const started = await store
            .transaction((tx) => startOperation(tx, { ...request, type, target, claims, rank, queue }))
            .catch((error) => error as { code: string });
          if ("id" in started) asked.push({ id: started.id, rank, claims });
          expect("code" in started ? started.code : "").toBe(inTheWay ? "busy" : "");
        }
        for (const resource of resources) {
          const claims = await readClaims(store.queries, [resource]);
          expect(claims.filter((claim) => claim.held)).toHaveLength(claims.length > 0 ? 1 : 0);
        }
      }
      while (await finishNext());
      expect(finished.size).toBe(asked.length);
      for (const { id } of asked) expect((await readOperation(store.queries, id))?.endedAt).not.toBeNull();
      expect(await readClaims(store.queries, resources)).toEqual([]);
    }),
    { numRuns: 40 },
  );
});
