/** One frozen file: the state of one disk at one moment. Its folder is that of the snapshot it was made for, which may be gone. */
export interface LayerRef {
  readonly folder: string;
  readonly disk: string;
}

/** A frozen file as it was seen. */
export interface Layer extends LayerRef {
  /** The frozen file it stands on; null when that is an image's artifact, or nothing. */
  readonly below: LayerRef | null;
  readonly usedBytes: number;
}

/** A file that is no layer and stands on one: a disk that an instance writes to. */
export interface StandingDisk {
  readonly below: LayerRef | null;
}

/** All that is on a node. */
export interface SeenLayers {
  readonly layers: readonly Layer[];
  readonly disks: readonly StandingDisk[];
  /** The folders of snapshots that are there, of those being made, and of those an instance is about to be made from. */
  readonly kept: ReadonlySet<string>;
  /** Those of them whose files may still change, or are just being taken up: they are left alone. */
  readonly unsettled: ReadonlySet<string>;
}

/** Layers that can become one: a file in the place of `into` shows the same and stands on `onto`, and nothing stands on what is hidden any more. */
export interface Merge {
  readonly into: Layer;
  /** From the top down. Each is no snapshot's, and only the one above it stands on it. */
  readonly hidden: readonly Layer[];
  /** The frozen file below the lowest; null when that is an image's artifact, or nothing. */
  readonly onto: LayerRef | null;
}

/** What can be done about layers that no snapshot needs any more. */
export interface LayerPlan {
  /** Nothing stands on them, directly or not; those that stand on others come first. */
  readonly remove: readonly LayerRef[];
  /** What is worth the copying. No two change the same file; the lowest come first. */
  readonly merge: readonly Merge[];
}

/** How many frozen files a disk may stand on. Each costs a machine memory, and time when it starts. */
export const maxLayers = 64;
/** On a longer stack all that is hidden is merged, whatever it costs: there must be room for the next snapshots. */
const crowdedLayers = 48;
/** So many are merged at one go, whatever they hold: one by one, what gathers would be copied each time. */
const manyHidden = 8;
/** So little is copied at once. */
const littleBytes = 64 * 2 ** 20;
/** What is written twice is free afterwards: at least this part of what is copied must be hoped for. */
const hopedPart = 1 / 4;

/** How much a snapshot holds alone, and how much together with others, in bytes on the node's disk. The image's artifact is not counted: it is the image's. */
export interface LayerSizes {
  readonly ownBytes: number;
  readonly sharedBytes: number;
}

const keyOf = ({ folder, disk }: LayerRef) => `${folder}/${disk}`;

/** What stands on what: a snapshot's or an instance's whole chain from its layers downwards. */
class Stack {
  readonly #byKey: ReadonlyMap<string, Layer>;

  constructor(layers: readonly Layer[]) {
    this.#byKey = new Map(layers.map((layer) => [keyOf(layer), layer]));
  }

  /** The layer and all below it; ends where one is missing. A circle, which nobody but a tampered header makes, ends too. */
  from(top: LayerRef | null): Layer[] {
    const chain = new Set<Layer>();
    for (let at = top; at; ) {
      const layer = this.#byKey.get(keyOf(at));
      if (!layer || chain.has(layer)) break;
      chain.add(layer);
      at = layer.below;
    }
    return [...chain];
  }
}

/** Decides what becomes of the layers on a node. Nothing that a snapshot or a disk stands on is ever removed. */
export function planLayers({ layers, disks, kept, unsettled }: SeenLayers): LayerPlan {
  const stack = new Stack(layers);
  const needed = new Set<Layer>();
  const tops: LayerRef[] = layers.filter(({ folder }) => kept.has(folder));
  for (const { below } of disks) if (below) tops.push(below);
  for (const top of tops) for (const layer of stack.from(top)) needed.add(layer);

  const depth = (layer: Layer) => stack.from(layer).length;
  const unneeded = layers.filter((layer) => !needed.has(layer));
  const worthwhile = possibleMerges({ disks, kept, unsettled }, stack, needed).filter(
    (merge) => isCheap(merge) || tops.some((top) => isCrowded(stack.from(top), merge)),
  );
  return {
    remove: unneeded.toSorted((one, other) => depth(other) - depth(one)),
    merge: worthwhile.toSorted((one, other) => depth(one.into) - depth(other.into)),
  };
}

function possibleMerges(
  { disks, kept, unsettled }: Omit<SeenLayers, "layers">,
  stack: Stack,
  needed: ReadonlySet<Layer>,
): Merge[] {
  const standers = new Map<string, (Layer | StandingDisk)[]>();
  for (const one of [...needed, ...disks]) {
    if (one.below) standers.set(keyOf(one.below), [...(standers.get(keyOf(one.below)) ?? []), one]);
  }
  const isHidden = (layer: Layer) => {
    const [above, ...others] = standers.get(keyOf(layer)) ?? [];
    return above !== undefined && "folder" in above && others.length === 0 && !kept.has(layer.folder);
  };
  return [...needed].flatMap((into) => {
    if (isHidden(into) || unsettled.has(into.folder)) return [];
    const [, ...below] = stack.from(into);
    const shown = below.findIndex((layer) => !isHidden(layer));
    const hidden = shown < 0 ? below : below.slice(0, shown);
    const onto = hidden.at(-1)?.below ?? null;
    // Nothing to merge, or what it would stand on is not there: somebody took it away, or made up a circle.
    const isWhole = onto === null || keyOf(onto) === keyOf(below[shown] ?? { folder: "", disk: "" });
    return hidden.length > 0 && isWhole ? [{ into, hidden, onto }] : [];
  });
}

function isCheap({ into, hidden }: Merge): boolean {
  const hiddenBytes = hidden.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
  const copied = into.usedBytes + hiddenBytes;
  const hoped = Math.min(into.usedBytes, hiddenBytes);
  return copied <= littleBytes || hidden.length >= manyHidden || hoped >= copied * hopedPart;
}

function isCrowded(chain: readonly Layer[], { into }: Merge): boolean {
  return chain.length > crowdedLayers && chain.includes(into);
}

/** The sizes of each kept folder's snapshot. What only one of them reaches, and no instance, is its own. */
export function sizesOf({ layers, disks, kept }: Omit<SeenLayers, "unsettled">): ReadonlyMap<string, LayerSizes> {
  const stack = new Stack(layers);
  const chains = new Map<string, Set<Layer>>();
  for (const layer of layers) {
    if (!kept.has(layer.folder)) continue;
    const chain = chains.get(layer.folder) ?? new Set();
    for (const one of stack.from(layer)) chain.add(one);
    chains.set(layer.folder, chain);
  }
  const holders = new Map<Layer, number>();
  const hold = (layer: Layer) => holders.set(layer, (holders.get(layer) ?? 0) + 1);
  for (const chain of chains.values()) for (const layer of chain) hold(layer);
  for (const { below } of disks) for (const layer of stack.from(below)) hold(layer);
  const sizes = new Map<string, LayerSizes>();
  for (const [folder, chain] of chains) {
    let ownBytes = 0;
    let sharedBytes = 0;
    for (const layer of chain) {
      if (holders.get(layer) === 1) ownBytes += layer.usedBytes;
      else sharedBytes += layer.usedBytes;
    }
    sizes.set(folder, { ownBytes, sharedBytes });
  }
  return sizes;
}

/** The longest stack of layers under any of these. */
export function chainLength(layers: readonly Layer[], tops: readonly (LayerRef | null)[]): number {
  const stack = new Stack(layers);
  return Math.max(0, ...tops.map((top) => stack.from(top).length));
}
