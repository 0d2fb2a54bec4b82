import { execFileSync, spawnSync } from "node:child_process";
import { mentions } from "./processes.ts";

/** The firewall tables of installations within a folder, told by the comment each carries. Only root can make and see them. */
export function tablesOf(folder: string): string[] {
  if (process.getuid?.() !== 0) return [];
  const names = [...nft("list", "tables").matchAll(/^table inet (berth_\w+)$/gm)].map(([, name]) => name ?? "");
  return names.filter((name) => mentions(/comment "(.*)"/.exec(nft("list", "table", "inet", name))?.[1] ?? "", folder));
}

/** Takes them away. A berthd leaves its rules in place, as its guests go on; whoever throws away its data folder without a purge has to do this. */
export function removeTablesOf(folder: string): void {
  for (const name of tablesOf(folder)) execFileSync("nft", ["delete", "table", "inet", name]);
}

/** What nft says; nothing where it is not installed, not allowed, or the table went in between. */
function nft(...args: readonly string[]): string {
  return spawnSync("nft", args, { encoding: "utf8" }).stdout ?? "";
}
