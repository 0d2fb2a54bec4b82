import { localFacts } from "./facts.ts";
import { localFiles } from "./files.ts";
import type { Host } from "./host.ts";
import { connectUnix, detachProgram, identifyProcess, isAlive, signalProcess, waitForExit } from "./processes.ts";
import { findProgram, runProgram, startProgram } from "./programs.ts";

/** The machine berthd itself runs on. */
export function localHost(): Host {
  return {
    name: "local",
    run: runProgram,
    start: startProgram,
    detach: detachProgram,
    identify: async (pid) => identifyProcess(pid),
    isAlive: async (identity) => isAlive(identity),
    signal: async (identity, signal) => signalProcess(identity, signal),
    waitForExit,
    connect: connectUnix,
    find: findProgram,
    files: localFiles,
    facts: localFacts,
  };
}
