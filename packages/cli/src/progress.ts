import { isFinal, type Operation, type OperationStep } from "@berth/api";
import type { Surroundings } from "./surroundings.ts";
import { plainText, span } from "./text.ts";

const spinner = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const marks = { succeeded: "✔", failed: "✘", undone: "↩" } as const;
const redrawMs = 100;

/** Shows an operation's steps on standard error while they happen. */
export interface Progress {
  show(operation: Operation): void;
  /** Leaves the screen alone while something else is asked; the next `show` goes on. */
  pause(): void;
  end(): void;
}

export function progressOn({ stderr, env }: Pick<Surroundings, "stderr" | "env">): Progress {
  return stderr.isTTY && env.TERM !== "dumb" ? new LiveProgress(stderr) : new PlainProgress(stderr);
}

/** One line for each step, drawn over again as it changes. */
class LiveProgress implements Progress {
  readonly #stderr: Surroundings["stderr"];
  #operation: Operation | undefined;
  #drawn = 0;
  #frame = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(stderr: Surroundings["stderr"]) {
    this.#stderr = stderr;
  }

  show(operation: Operation): void {
    this.#operation = operation;
    this.#timer ??= setInterval(() => this.#draw(), redrawMs);
    this.#draw();
  }

  pause(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#drawn = 0;
  }

  end(): void {
    if (this.#timer) this.#draw();
    this.pause();
  }

  #draw(): void {
    if (!this.#operation) return;
    this.#frame += 1;
    // A terminal whose size nobody has set says 0.
    const width = (this.#stderr.columns || 80) - 1;
    const lines = linesOf(this.#operation, Date.now(), spinner[this.#frame % spinner.length] ?? "").map((line) =>
      line.slice(0, width),
    );
    const back = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : "";
    this.#stderr.write(`${back}\r\x1b[J${lines.map((line) => `${line}\n`).join("")}`);
    this.#drawn = lines.length;
  }
}

function linesOf(operation: Operation, now: number, busy: string): string[] {
  const lines = operation.steps.map(
    (step) => `${step.status === "running" ? busy : marks[step.status]} ${stepLine(step, now)}`,
  );
  if (operation.reason && !isFinal(operation.status)) lines.push(`${busy} ${plainText(operation.reason)}`);
  else if (lines.length === 0 && !isFinal(operation.status)) lines.push(`${busy} ${operation.type}`);
  return lines;
}

/** `create-disks  40 %  writing the root disk  1.2 s` */
function stepLine(step: OperationStep, now: number): string {
  const percent = step.percent === null || step.status !== "running" ? "" : `${Math.round(step.percent)} %`;
  const took =
    step.status === "undone" ? "" : span((step.endedAt ? Date.parse(step.endedAt) : now) - Date.parse(step.startedAt));
  return [step.name, percent, plainText(step.detail ?? ""), took].filter(Boolean).join("  ").replaceAll("\n", " ");
}

/** For files and pipes: a line when a step begins, and one when it ends. */
class PlainProgress implements Progress {
  readonly #stderr: Surroundings["stderr"];
  readonly #told = new Set<string>();

  constructor(stderr: Surroundings["stderr"]) {
    this.#stderr = stderr;
  }

  show(operation: Operation): void {
    if (operation.reason) this.#tell(`waiting ${operation.reason}`, plainText(operation.reason));
    for (const step of operation.steps) {
      this.#tell(`${step.name} ${step.startedAt}`, step.name);
      if (step.status === "running") continue;
      const word = { succeeded: "done", failed: "failed", undone: "undone" }[step.status];
      // What is taken back ends long after it was done.
      const took =
        step.endedAt && step.status !== "undone"
          ? ` in ${span(Date.parse(step.endedAt) - Date.parse(step.startedAt))}`
          : "";
      this.#tell(`${step.name} ${step.startedAt} ${step.status}`, `${step.name}: ${word}${took}`);
    }
  }

  pause(): void {}
  end(): void {}

  #tell(key: string, line: string): void {
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.#stderr.write(`${line}\n`);
  }
}
