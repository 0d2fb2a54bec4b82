import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  chainLength,
  type Layer,
  type LayerRef,
  type Merge,
  maxLayers,
  planLayers,
  type SeenLayers,
  sizesOf,
} from "./layers.ts";

/** A layer of the root disk in a folder, over another one. */
const layer = (folder: string, below: string | null, usedBytes = 10): Layer => ({
  folder,
  disk: "root",
  below: below === null ? null : { folder: below, disk: "root" },
  usedBytes,
});
const disk = (below: string | null) => ({ below: below === null ? null : { folder: below, disk: "root" } });
const plan = (
  layers: readonly Layer[],
  disks: SeenLayers["disks"],
  kept: readonly string[],
  unsettled: readonly string[] = [],
) => {
  const { remove, merge } = planLayers({ layers, disks, kept: new Set(kept), unsettled: new Set(unsettled) });
  return { remove: remove.map(({ folder }) => folder), merge: merge.map(inWords) };
};
const inWords = ({ into, hidden, onto }: Merge) =>
  `${hidden.map(({ folder }) => folder).join(" ")} into ${into.folder}${onto ? ` on ${onto.folder}` : ""}`;

describe("what becomes of frozen files", () => {
  const chain = [layer("a", null), layer("b", "a"), layer("c", "b")];
  it.each<[string, () => ReturnType<typeof plan>, ReturnType<typeof plan>]>([
    ["all stay while their snapshots do", () => plan(chain, [], ["a", "b", "c"]), { remove: [], merge: [] }],
    [
      "one that another stands on goes into that",
      () => plan(chain, [], ["a", "c"]),
      { remove: [], merge: ["b into c on a"] },
    ],
    ["several do at one go", () => plan(chain, [], ["c"]), { remove: [], merge: ["b a into c"] }],
    ["no snapshot need stand on them", () => plan(chain, [disk("c")], []), { remove: [], merge: ["b a into c"] }],
    [
      "what is being made or taken up is left alone",
      () => plan(chain, [disk("c")], ["a", "c"], ["c"]),
      { remove: [], merge: [] },
    ],
    [
      "nothing is copied that would stand on what is gone",
      () => plan(chain.slice(1), [disk("c")], []),
      { remove: [], merge: [] },
    ],
    ["the uppermost go with nothing on them", () => plan(chain, [], ["a"]), { remove: ["c", "b"], merge: [] }],
    ["an instance's disk keeps all below it", () => plan(chain, [disk("c")], ["a", "b"]), { remove: [], merge: [] }],
    [
      "what two stand on stays as it is",
      () => plan([...chain, layer("d", "b")], [], ["a", "c", "d"]),
      { remove: [], merge: [] },
    ],
    [
      "what is below that goes into it, though",
      () => plan([...chain, layer("d", "b")], [], ["c", "d"]),
      { remove: [], merge: ["a into b"] },
    ],
    [
      "what a disk and a layer stand on does, too",
      () => plan(chain, [disk("b")], ["a", "c"]),
      { remove: [], merge: [] },
    ],
    [
      "nothing is left of what nobody needs",
      () => plan(chain, [disk(null)], []),
      { remove: ["c", "b", "a"], merge: [] },
    ],
    [
      "a circle, which somebody made up, ends",
      () => plan([layer("a", "b"), layer("b", "a")], [], ["a"]),
      { remove: [], merge: [] },
    ],
  ])("%s", (_, decide, expected) => expect(decide()).toEqual(expected));
});

describe("what is merged when", () => {
  const mebibyte = 2 ** 20;
  /** One after the other from the bottom up, under the disk of an instance; the uppermost is a snapshot's. */
  const stacked = (...mebibytes: number[]) => {
    const layers = mebibytes.map((size, at) => layer(`l${at}`, at === 0 ? null : `l${at - 1}`, size * mebibyte));
    const top = `l${mebibytes.length - 1}`;
    return plan(layers, [disk(top)], [top]).merge.length;
  };
  it.each<[string, number[], number]>([
    ["little is copied at once", [60, 1], 1],
    ["much is, when as much may have been written twice", [1000, 500], 1],
    ["a little more is not worth copying much again", [1000, 10], 0],
    ["nor is a little below much", [10, 1000], 0],
    ["but when there are many", [1000, ...Array.from({ length: 8 }, () => 10)], 1],
  ])("%s", (_, mebibytes, merges) => expect(stacked(...mebibytes)).toBe(merges));

  it("a stack that grows long has all merged that can be, each run at one go", () => {
    const layers = Array.from({ length: 49 }, (_, at) => layer(`l${at}`, at === 0 ? null : `l${at - 1}`, 2 ** 30));
    const big = layers.map((one, at) => ({ ...one, usedBytes: at % 3 === 0 ? 2 ** 40 : 2 ** 30 }));
    const kept = big.filter((_, at) => at % 3 !== 0).map(({ folder }) => folder);
    const tops = [disk("l48")];
    expect(plan(big.slice(0, 48), [disk("l47")], kept).merge).toEqual([]);
    const { merge } = plan(big, tops, kept);
    expect(merge).toHaveLength(16);
    expect(merge.slice(0, 2)).toEqual(["l0 into l1", "l3 into l4 on l2"]);
  });
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
      unsettled: fc.constant(new Set<string>()),
      disks: fc.array(any, { maxLength: 4 }).map((tops) =>
        tops.map((top) => {
          const under = top === null ? undefined : layers[top];
          return { below: under ? ref(under) : null };
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

it("never removes what anything stands on, and keeps nothing else", () => {
  fc.assert(
    fc.property(forests, (seen) => {
      const { remove } = planLayers(seen);
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
    }),
  );
});

const blocks = [0, 1, 2, 3];
/** What each layer has of some blocks: here the bits of its size, each with the layer's own name in it. */
type Contents = ReadonlyMap<string, ReadonlyMap<number, string>>;

function contentsOf({ layers }: SeenLayers): Contents {
  const written = ({ usedBytes }: Layer) => blocks.filter((block) => (usedBytes >> block) % 2 === 1);
  return new Map(layers.map((one) => [keyOf(one), new Map(written(one).map((block) => [block, keyOf(one)]))]));
}

/** What everybody sees who sees anything: of each block what the uppermost has that has it. */
function views(seen: SeenLayers, contents: Contents): string[][] {
  const tops = [...seen.layers.filter(({ folder }) => seen.kept.has(folder)), ...seen.disks.map(({ below }) => below)];
  return tops.map((top) => {
    const chain = chainOf(seen.layers, top).map((one) => contents.get(keyOf(one)));
    return blocks.map((block) => chain.find((content) => content?.has(block))?.get(block) ?? "");
  });
}

/** What there is after a merge, and after what nothing stands on has gone. */
function merged(seen: SeenLayers, contents: Contents, { into, hidden, onto }: Merge) {
  const layers = seen.layers.map((one) => (keyOf(one) === keyOf(into) ? { ...one, below: onto } : one));
  const removed = new Set(planLayers({ ...seen, layers }).remove.map(keyOf));
  const upwards = [...hidden.toReversed(), into].map((one) => contents.get(keyOf(one)) ?? new Map<number, string>());
  const content = new Map(upwards.flatMap((one) => [...one]));
  return {
    seen: { ...seen, layers: layers.filter((one) => !removed.has(keyOf(one))) },
    contents: new Map([...contents, [keyOf(into), content]]),
    removed,
  };
}

it("merges so that everybody sees what they saw, what is merged can go, and only what somebody needs is left", () => {
  fc.assert(
    fc.property(forests, (all) => {
      const gone = new Set(planLayers(all).remove.map(keyOf));
      let seen: SeenLayers = { ...all, layers: all.layers.filter((one) => !gone.has(keyOf(one))) };
      let contents = contentsOf(seen);
      const before = views(seen, contents);
      for (let merge = planLayers(seen).merge[0]; merge; merge = planLayers(seen).merge[0]) {
        const after = merged(seen, contents, merge);
        expect(after.removed).toEqual(new Set(merge.hidden.map(keyOf)));
        ({ seen, contents } = after);
        expect(views(seen, contents)).toEqual(before);
      }
      // All of them are small: none was left because it was not worth the copying.
      const needless = seen.layers.filter((layer) => {
        const standers = [...seen.layers, ...seen.disks].filter(({ below }) => below && keyOf(below) === keyOf(layer));
        return standers.length === 1 && "folder" in (standers[0] ?? {}) && !seen.kept.has(layer.folder);
      });
      expect(needless).toEqual([]);
    }),
  );
});

it("leaves room for more snapshots whatever was deleted, unless as many are kept", () => {
  const any = fc.array(fc.record({ kept: fc.boolean(), bytes: fc.nat(2 ** 40) }), {
    minLength: maxLayers,
    maxLength: maxLayers,
  });
  fc.assert(
    fc.property(any, (made) => {
      const layers = made.map(({ bytes }, at) => layer(`l${at}`, at === 0 ? null : `l${at - 1}`, bytes));
      const kept = new Set(layers.filter((_, at) => made[at]?.kept).map(({ folder }) => folder));
      const seen = { layers, disks: [disk(`l${maxLayers - 1}`)], kept, unsettled: new Set<string>() };
      const hidden = planLayers(seen).merge.flatMap((merge) => merge.hidden);
      expect(layers.length - hidden.length).toBe(new Set([...kept, `l${maxLayers - 1}`]).size);
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
