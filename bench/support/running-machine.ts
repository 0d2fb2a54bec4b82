import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** What an instance's machine is made of, as its QEMU was told. */
export interface RunningMachine {
  readonly program: string;
  readonly args: readonly string[];
  readonly pid: number;
  readonly disk: MachineDisk;
}

/** A disk that stands on another. */
export interface MachineDisk {
  readonly path: string;
  /** How long it is, in bytes. */
  readonly bytes: number;
  readonly backing: { readonly path: string; readonly format: string };
}

/** The machine that an instance runs in. Throws when it runs in none. */
export function machineOf(instanceId: string): RunningMachine {
  for (const name of readdirSync("/proc").filter((one) => /^\d+$/.test(one))) {
    const [program = "", ...args] = argumentsOf(name);
    const runs = program.includes("qemu-system") && args[args.indexOf("-name") + 1]?.endsWith(`/${instanceId}`);
    if (runs) return { program, args, pid: Number(name), disk: firstDisk(args) };
  }
  throw new Error(`${instanceId} runs in no QEMU`);
}

/** The value of an option that is there once. */
export function optionOf({ args }: RunningMachine, option: string): string {
  const value = args[args.indexOf(option) + 1];
  if (!args.includes(option) || value === undefined) throw new Error(`its QEMU has no ${option}`);
  return value;
}

/** Makes another disk over the same one. */
export function createOverlay(path: string, { backing, bytes }: MachineDisk): void {
  execFileSync("qemu-img", [
    "create",
    "-q",
    "-f",
    "qcow2",
    "-b",
    backing.path,
    "-F",
    backing.format,
    path,
    String(bytes),
  ]);
}

function argumentsOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  } catch {
    // It has just ended.
    return [];
  }
}

function firstDisk(args: readonly string[]): MachineDisk {
  const path = args.flatMap((one) => /filename=([^,]*\.qcow2)/.exec(one)?.[1] ?? [])[0] ?? "";
  const info = JSON.parse(execFileSync("qemu-img", ["info", "-U", "--output=json", path], { encoding: "utf8" })) as {
    readonly "virtual-size": number;
    readonly "full-backing-filename": string;
    readonly "backing-filename-format": string;
  };
  return {
    path,
    bytes: info["virtual-size"],
    backing: { path: info["full-backing-filename"], format: info["backing-filename-format"] },
  };
}
