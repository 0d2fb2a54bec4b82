import { constants, openSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Pipe } from "./host.ts";
import { runProgram } from "./programs.ts";

/** How many are made at a time: to start the program that makes them costs far more than the pipes. */
const stockSize = 24;

const stock: Pipe[] = [];

/** Pipes of one's own; whoever takes them closes their ends. */
export async function takePipes(count: number): Promise<readonly Pipe[]> {
  while (stock.length < count) stock.push(...(await makePipes(Math.max(count, stockSize))));
  return stock.splice(0, count);
}

/** Node cannot make a pipe, but it can open both ends of a named one and take its name away. Non-blocking opening never waits for the other end. */
async function makePipes(count: number): Promise<readonly Pipe[]> {
  const folder = await mkdtemp(join(tmpdir(), "berth-pipe-"));
  try {
    const paths = Array.from({ length: count }, (_, at) => join(folder, String(at)));
    await runProgram("mkfifo", ["-m", "600", ...paths]);
    return paths.map((path) => ({
      readFd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK),
      writeFd: openSync(path, constants.O_WRONLY),
    }));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
