import { setTimeout as delay } from "node:timers/promises";
import type { ReadLogOptions } from "../driver.ts";
import { isPoweredOn } from "./machine.ts";
import type { World } from "./world.ts";

const lookEveryMs = 50;
const timeLength = new Date(0).toISOString().length + 1;

/** The console log as `readLog` gives it. With `follow` it ends when the machine is off, or when aborted. */
export async function* readFakeLog(world: World, id: string, options: ReadLogOptions): AsyncGenerator<string, void> {
  const show = (line: string) => `${options.timestamps ? line : line.slice(timeLength)}\n`;
  let lines = await readLines(world, id);
  for (const line of options.tail === undefined ? lines : lines.slice(Math.max(0, lines.length - options.tail)))
    yield show(line);
  while (options.follow && !options.signal.aborted) {
    const record = await world.read(id);
    const running = record !== null && isPoweredOn(record);
    const now = await readLines(world, id);
    // The older half may have gone: go on behind the last line that was shown.
    const from = lines.length === 0 ? 0 : now.lastIndexOf(lines.at(-1) ?? "") + 1;
    for (const line of now.slice(from)) yield show(line);
    lines = now;
    if (!running) return;
    await delay(lookEveryMs, undefined, { signal: options.signal }).catch(() => {});
  }
}

async function readLines(world: World, id: string): Promise<readonly string[]> {
  return (await world.readLog(id)).split("\n").filter((line) => line !== "");
}
