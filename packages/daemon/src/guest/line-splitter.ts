/** Cuts a byte stream from an untrusted writer into lines. A line longer than the limit is left out; memory is bounded by the limit. */
export class LineSplitter {
  readonly #limit: number;
  #parts: Buffer[] = [];
  #length = 0;
  #tooLong = false;

  /** `limitBytes` counts without the newline. */
  constructor(limitBytes: number) {
    this.#limit = limitBytes;
  }

  /** The lines that these bytes complete, without their newlines; empty ones are left out. */
  push(bytes: Uint8Array): readonly string[] {
    const lines: string[] = [];
    let start = 0;
    for (;;) {
      const end = bytes.indexOf(0x0a, start);
      this.#add(bytes.subarray(start, end < 0 ? bytes.length : end));
      if (end < 0) return lines;
      const line = this.#finish();
      if (line) lines.push(line);
      start = end + 1;
    }
  }

  #add(bytes: Uint8Array): void {
    if (this.#tooLong || bytes.length === 0) return;
    this.#length += bytes.length;
    if (this.#length > this.#limit) {
      this.#tooLong = true;
      this.#parts = [];
    } else {
      // A copy: the stream may use its buffer again.
      this.#parts.push(Buffer.from(bytes));
    }
  }

  #finish(): string | undefined {
    const line = this.#tooLong ? undefined : Buffer.concat(this.#parts).toString("utf8").trim();
    this.#parts = [];
    this.#length = 0;
    this.#tooLong = false;
    return line;
  }
}
