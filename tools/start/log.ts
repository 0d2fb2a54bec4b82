import { closeSync, copyFileSync, openSync, readFileSync, statSync, truncateSync, watch } from "node:fs";

/** What `berthd.log` may hold before it becomes `berthd.log.1`, in the place of the one before. */
const maxBytes = 8 * 2 ** 20;

/** The log of a berthd that is started here: appended to over all starts, and at most two files of a bounded size. */
export class BerthdLog {
  readonly path: string;
  readonly #maxBytes: number;
  /** Where the words of this berthd begin. */
  #begin = 0;

  constructor(path: string, limits: { readonly maxBytes: number } = { maxBytes }) {
    this.path = path;
    this.#maxBytes = limits.maxBytes;
  }

  /** Opens it for a berthd that begins now, to which the descriptor is handed; `use` gets it. */
  open<T>(use: (fd: number) => T): T {
    this.bound();
    const fd = openSync(this.path, "a", 0o600);
    try {
      this.#begin = statSync(this.path).size;
      return use(fd);
    } finally {
      closeSync(fd);
    }
  }

  /**
   * Puts what there is aside when it is too much. The file itself stays, since berthd has it open, and writes at its end wherever that is; what it writes between the
   * copy and the cut is lost.
   */
  bound(): void {
    if ((statSync(this.path, { throwIfNoEntry: false })?.size ?? 0) <= this.#maxBytes) return;
    copyFileSync(this.path, `${this.path}.1`);
    truncateSync(this.path);
    this.#begin = 0;
  }

  /** Keeps it bounded while berthd writes; gives how to end that. */
  keepBounded(): () => void {
    const watcher = watch(this.path, () => {
      try {
        this.bound();
      } catch {
        // A full disk, or no folder any more: a log is no reason to end.
      }
    });
    watcher.on("error", () => undefined);
    return () => watcher.close();
  }

  /** What the berthd that began last said last. */
  lastWords(): string {
    return readFileSync(this.path).subarray(this.#begin).toString("utf8").trim().split("\n").slice(-10).join("\n");
  }
}
