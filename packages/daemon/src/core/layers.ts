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

/** A disk that an instance writes to. */
export interface StandingDisk {
  readonly instanceId: string;
  readonly below: LayerRef | null;
}

/** All that is on a node. */
export interface SeenLayers {
  readonly layers: readonly Layer[];
  readonly disks: readonly StandingDisk[];
  /** The folders of snapshots that are there, of those being made, and of those an instance is about to be made from. */
  readonly kept: ReadonlySet<string>;
}

/** What can be done about layers that no snapshot needs any more. */
export interface LayerPlan {
  /** Nothing stands on them, directly or not; those that stand on others come first. */
  readonly remove: readonly LayerRef[];
  /** Only one other layer stands on it: what `hidden` has can move up `into` that, and then `hidden` can go. The lowest come first. */
  readonly merge: readonly { readonly hidden: LayerRef; readonly into: LayerRef }[];
}

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
export function planLayers({ layers, disks, kept }: SeenLayers): LayerPlan {
  const stack = new Stack(layers);
  const needed = new Set<Layer>();
  const tops: LayerRef[] = layers.filter(({ folder }) => kept.has(folder));
  for (const { below } of disks) if (below) tops.push(below);
  for (const top of tops) for (const layer of stack.from(top)) needed.add(layer);

  const standers = new Map<string, (Layer | StandingDisk)[]>();
  for (const one of [...needed, ...disks]) {
    if (one.below) standers.set(keyOf(one.below), [...(standers.get(keyOf(one.below)) ?? []), one]);
  }
  const depth = (layer: Layer) => stack.from(layer).length;
  const lowestFirst = [...needed].toSorted((one, other) => depth(one) - depth(other));
  const merge = lowestFirst.flatMap((hidden) => {
    if (kept.has(hidden.folder)) return [];
    const [into, ...others] = standers.get(keyOf(hidden)) ?? [];
    return into && "folder" in into && others.length === 0 ? [{ hidden, into }] : [];
  });
  const unneeded = layers.filter((layer) => !needed.has(layer));
  return { remove: unneeded.toSorted((one, other) => depth(other) - depth(one)), merge };
}

/** The sizes of each kept folder's snapshot. What only one of them reaches, and no instance, is its own. */
export function sizesOf({ layers, disks, kept }: SeenLayers): ReadonlyMap<string, LayerSizes> {
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
