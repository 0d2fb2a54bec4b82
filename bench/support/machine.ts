import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";

/** What the figures were measured on, a line each. */
export function describeMachine(): string[] {
  const [cpu] = cpus();
  return [
    `${cpus().length} × ${cpu?.model.trim() ?? "unknown processor"}, ${(totalmem() / 1024 ** 3).toFixed(0)} GiB of memory`,
    `${distribution()}, kernel ${release()}`,
    `${firstLine("qemu-system-x86_64", "--version")}; Node ${process.version}`,
    `load average ${(loadavg()[2] ?? 0).toFixed(1)} over its last 15 minutes`,
  ];
}

function distribution(): string {
  const text = readFileSync("/etc/os-release", "utf8");
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? "Linux";
}

function firstLine(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: "utf8" }).split("\n")[0] ?? "";
}
