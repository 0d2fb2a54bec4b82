import { once } from "node:events";
import { createInterface } from "node:readline";
import { UsageError } from "./errors.ts";
import type { Surroundings } from "./surroundings.ts";
import { plainText, TerminalFilter } from "./text.ts";

/** What a command says: results on standard output, everything else on standard error. */
export class Output {
  readonly #outside: Surroundings;

  constructor(outside: Surroundings) {
    this.#outside = outside;
  }

  print(text: string): void {
    this.#outside.stdout.write(text);
  }

  /** A line on standard error. */
  say(line: string): void {
    this.#outside.stderr.write(`${plainText(line)}\n`);
  }

  /** Copies bytes that others wrote to standard output, as fast as it takes them; filtered when it is a terminal. */
  async copy(source: AsyncIterable<Uint8Array>): Promise<void> {
    const { stdout } = this.#outside;
    const filter = stdout.isTTY ? new TerminalFilter() : undefined;
    for await (const chunk of source) {
      if (!stdout.write(filter ? filter.push(chunk) : chunk)) await once(stdout, "drain");
    }
    if (filter) stdout.write(filter.end());
  }

  /** Whether someone can be asked. */
  get canAsk(): boolean {
    return Boolean(this.#outside.stdin.isTTY && this.#outside.stderr.isTTY);
  }

  /** Asks on the terminal and gives the line of the answer; empty when the input ends or the question is called off. */
  async ask(question: string, signal?: AbortSignal): Promise<string> {
    this.#outside.stderr.write(plainText(question));
    const lines = createInterface({ input: this.#outside.stdin, terminal: false });
    try {
      return await new Promise<string>((resolve) => {
        lines.once("line", resolve);
        lines.once("close", () => resolve(""));
        signal?.addEventListener("abort", () => resolve(""), { once: true });
      });
    } finally {
      lines.close();
      this.#outside.stdin.pause();
    }
  }

  /** Goes on when --yes was given or the answer is `word`; otherwise throws. */
  async confirm(question: string, word: string, given: boolean | undefined): Promise<void> {
    if (given) return;
    if (!this.canAsk)
      throw new UsageError(`${question} Nobody can be asked here.`, "Pass --yes to go on without a question.");
    const answer = await this.ask(`${question} Type ${word} to go on: `);
    if (answer.trim() !== word) throw new UsageError("Nothing was done.");
  }
}
