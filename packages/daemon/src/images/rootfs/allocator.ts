/** A run of neighbouring blocks. */
export interface Run {
  readonly start: number;
  readonly length: number;
}

/** A bitmap over a whole file system's blocks or inodes: one bit each, set when in use. */
export class Bitmap {
  readonly bytes: Buffer;
  readonly size: number;
  #next = 0;

  constructor(bytes: Buffer, size: number) {
    this.bytes = bytes;
    this.size = size;
  }

  has(index: number): boolean {
    return ((this.bytes[index >> 3] ?? 0xff) & (1 << (index & 7))) !== 0;
  }

  set(index: number, used: boolean): void {
    const byte = this.bytes[index >> 3] ?? 0;
    this.bytes[index >> 3] = used ? byte | (1 << (index & 7)) : byte & ~(1 << (index & 7));
  }

  /** Takes `count` free places in rising order, in as few runs as that gives; undefined when there are not so many left. */
  take(count: number, longestRun: number): Run[] | undefined {
    const runs: { start: number; length: number }[] = [];
    for (let left = count; left > 0; left -= 1) {
      while (this.#next < this.size && this.has(this.#next)) this.#next += 1;
      if (this.#next >= this.size) return undefined;
      this.set(this.#next, true);
      const last = runs.at(-1);
      if (last && last.start + last.length === this.#next && last.length < longestRun) last.length += 1;
      else runs.push({ start: this.#next, length: 1 });
    }
    return runs;
  }
}
