import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chainLength, type Layer, type LayerRef, planLayers, type SeenLayers, sizesOf } from "./layers.ts";

/** A layer of the root disk in a folder, over another one. */
const layer = (folder: string, below: string | null, usedBytes = 10): Layer => ({
  folder,
  disk: "root",
  below: below === null ? null : { folder: below, disk: "root" },
  usedBytes,
});
const disk = (instanceId: string, below: string | null) => ({
  instanceId,
  below: below === null ? null : { folder: below, disk: "root" },
});
const plan = (layers: readonly Layer[], disks: SeenLayers["disks"], kept: readonly string[]) => {
  const { remove, merge } = planLayers({ layers, disks, kept: new Set(kept) });
  return {
    remove: remove.map(({ folder }) => folder),
    merge: merge.map(({ hidden, into }) => `${hidden.folder} into ${into.folder}`),
  };
};

describe("what becomes of frozen files", () => {
  const chain = [layer("a", null), layer("b", "a"), layer("c", "b")];
  it.each<[string, () => ReturnType<typeof plan>, ReturnType<typeof plan>]>([
    ["all stay while their snapshots do", () => plan(chain, [], ["a", "b", "c"]), { remove: [], merge: [] }],
    ["one that others stand on can move up", () => plan(chain, [], ["a", "c"]), { remove: [], merge: ["b into c"] }],
    ["several can, one after the other", () => plan(chain, [], ["c"]), { remove: [], merge: ["a into b", "b into c"] }],
    ["the uppermost go with nothing on them", () => plan(chain, [], ["a"]), { remove: ["c", "b"], merge: [] }],
    [
      "an instance's disk keeps all below it",
      () => plan(chain, [disk("i", "c")], ["a", "b"]),
      { remove: [], merge: [] },
    ],
    [
      "what two stand on stays as it is",
      () => plan([...chain, layer("d", "b")], [], ["a", "c", "d"]),
      { remove: [], merge: [] },
    ],
    [
      "what a disk and a layer stand on does, too",
      () => plan(chain, [disk("i", "b")], ["a", "c"]),
      { remove: [], merge: [] },
    ],
    [
      "nothing is left of what nobody needs",
      () => plan(chain, [disk("i", null)], []),
      { remove: ["c", "b", "a"], merge: [] },
    ],
    [
      "a circle, which somebody made up, ends",
      () => plan([layer("a", "b"), layer("b", "a")], [], ["a"]),
      { remove: [], merge: ["b into a"] },
    ],
  ])("%s", (_, decide, expected) => expect(decide()).toEqual(expected));
});

/** Any forest of layers over one or two disks, with instances on some of them and snapshots of some. */
const forests = fc
  .array(fc.record({ below: fc.nat(), disk: fc.constantFrom("root", "data"), bytes: fc.nat(100) }), { maxLength: 12 })
  .chain((made) => {
    const layers: Layer[] = [];
    for (const [at, { below, disk, bytes }] of made.entries()) {
      const candidates = layers.filter((one) => one.disk === disk);
      const under = candidates[below % (candidates.length + 1)];
      layers.push({ folder: `f${at % 7}-${disk}-${at}`, disk, below: under ? ref(under) : null, usedBytes: bytes });
    }
    const any = fc.option(fc.nat(Math.max(0, layers.length - 1)));
    return fc.record({
      layers: fc.constant(layers),
      kept: fc.subarray(layers.map(({ folder }) => folder)).map((folders) => new Set(folders)),
      disks: fc.array(any, { maxLength: 4 }).map((tops) =>
        tops.map((top, at) => {
          const under = top === null ? undefined : layers[top];
          return { instanceId: `i${at}`, below: under ? ref(under) : null };
        }),
      ),
    });
  });

const ref = ({ folder, disk }: LayerRef): LayerRef => ({ folder, disk });
const keyOf = ({ folder, disk }: LayerRef) => `${folder}/${disk}`;

/** All that a layer stands on, itself included. */
function chainOf(layers: readonly Layer[], top: LayerRef | null): Layer[] {
  const found = top && layers.find((one) => keyOf(one) === keyOf(top));
  return found ? [found, ...chainOf(layers, found.below)] : [];
}

it("never removes what anything stands on, keeps nothing else, and merges only what is hidden and has one above it", () => {
  fc.assert(
    fc.property(forests, (seen) => {
      const { remove, merge } = planLayers(seen);
      const tops = [
        ...seen.layers.filter(({ folder }) => seen.kept.has(folder)),
        ...seen.disks.map(({ below }) => below),
      ];
      const needed = new Set(tops.flatMap((top) => chainOf(seen.layers, top)).map(keyOf));
      expect(new Set(remove.map(keyOf))).toEqual(new Set(seen.layers.map(keyOf).filter((key) => !needed.has(key))));
      for (const [at, one] of remove.entries()) {
        for (const later of remove.slice(at + 1)) {
          const below = seen.layers.find((other) => keyOf(other) === keyOf(later))?.below;
          expect(below && keyOf(below)).not.toBe(keyOf(one));
        }
      }
      for (const { hidden, into } of merge) {
        expect(seen.kept.has(hidden.folder)).toBe(false);
        const above = seen.layers.filter(({ below }) => below && keyOf(below) === keyOf(hidden));
        expect(above.filter((one) => needed.has(keyOf(one))).map(keyOf)).toEqual([keyOf(into)]);
        expect(seen.disks.filter(({ below }) => below && keyOf(below) === keyOf(hidden))).toEqual([]);
      }
    }),
  );
});

it("counts a snapshot's own bytes as those that would be free without it, and the others as shared", () => {
  fc.assert(
    fc.property(forests, (seen) => {
      const used = (kept: ReadonlySet<string>) => {
        const { remove } = planLayers({ ...seen, kept });
        const gone = new Set(remove.map(keyOf));
        return seen.layers.filter((one) => !gone.has(keyOf(one))).reduce((sum, { usedBytes }) => sum + usedBytes, 0);
      };
      for (const [folder, { ownBytes, sharedBytes }] of sizesOf(seen)) {
        const without = new Set([...seen.kept].filter((other) => other !== folder));
        expect(used(seen.kept) - used(without)).toBe(ownBytes);
        const chain = seen.layers.filter((one) => one.folder === folder).flatMap((top) => chainOf(seen.layers, top));
        const all = [...new Set(chain)].reduce((sum, { usedBytes }) => sum + usedBytes, 0);
        expect(ownBytes + sharedBytes).toBe(all);
      }
    }),
  );
});

it("counts the longest stack below", () => {
  const chain = [layer("a", null), layer("b", "a"), layer("c", "b")];
  expect(chainLength(chain, [{ folder: "b", disk: "root" }, null])).toBe(2);
  expect(chainLength(chain, [null])).toBe(0);
});
