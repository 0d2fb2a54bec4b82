import { localFacts } from "./facts.ts";
import { localFiles } from "./files.ts";
import type { Host } from "./host.ts";
import { listenUnix } from "./listen-unix.ts";
import { takePipes } from "./pipes.ts";
import { tryPort } from "./ports.ts";
import {
  connectUnix,
  detachProgram,
  identifyProcess,
  isAlive,
  listProcesses,
  listUids,
  signalProcess,
  waitForExit,
} from "./processes.ts";
import { findProgram, runProgram, startProgram } from "./programs.ts";

/** The machine berthd itself runs on. */
export function localHost(): Host {
  return {
    name: "local",
    run: runProgram,
    start: startProgram,
    detach: detachProgram,
    pipes: takePipes,
    processes: listProcesses,
    uids: listUids,
    tryPort,
    identify: async (pid) => identifyProcess(pid),
    isAlive: async (identity) => isAlive(identity),
    signal: async (identity, signal) => signalProcess(identity, signal),
    signalGroup: async (identity, signal) => signalProcess(identity, signal, { group: true }),
    waitForExit,
    connect: connectUnix,
    listen: listenUnix,
    find: findProgram,
    files: localFiles,
    facts: localFacts,
  };
}
