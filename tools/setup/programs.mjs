import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";

/** Administrators' programs are not in everybody's PATH. */
const folders = [...(process.env.PATH ?? "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin"].filter(Boolean);

/**
 * Where a program is; undefined when it is not installed.
 * @param {string} program
 */
export function findProgram(program) {
  return folders.map((folder) => join(folder, program)).find((path) => isThere(path, constants.X_OK));
}

/** @param {string} path */
export function isThere(path, mode = constants.F_OK) {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/**
 * Runs a program with its output collected, so that it is shown only when it failed. Rejects when it cannot be started.
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ cwd?: string; env?: NodeJS.ProcessEnv; input?: "inherit" }} options
 * @returns {Promise<{ code: number; output: string }>}
 */
export function run(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const { input, ...rest } = options;
    const child = spawn(program, args, { ...rest, stdio: [input ?? "ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code: code ?? 1, output }));
  });
}

/**
 * The last lines of a failed program, indented, for a message.
 * @param {string} output
 */
export function lastLines(output, count = 15) {
  return output
    .trim()
    .split("\n")
    .slice(-count)
    .map((line) => `  ${line}`)
    .join("\n");
}
