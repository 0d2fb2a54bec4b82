import type { Node } from "@berth/api";
import { facts, mebibytes, plainText } from "./text.ts";

/** A node with what it can do and what it was checked for. */
export function describeNode(node: Node): string {
  const head = facts([
    ["Name", node.name],
    ["Id", node.id],
    ["Version", node.version],
    ["Machine", `${node.architecture}, ${node.kernel}`],
    ["CPUs", String(node.cpus)],
    ["Memory", mebibytes(node.memoryMib)],
    ["Free disk", mebibytes(node.diskFreeMib)],
    ["Accelerator", node.accelerator ? `${node.accelerator.kind}: ${node.accelerator.reason}` : "not probed yet"],
    ["Up since", node.startedAt],
  ]);
  return `${head}\n${describeChecks(node)}`;
}

/** One line for each thing a node was checked for, with what to do where it is not well. */
function describeChecks(node: Node): string {
  const locations = node.locations.map(({ name, healthy, reason, abilities }) => ({
    name: `location ${name}`,
    ok: healthy,
    detail: healthy ? `boots ${abilities.boots.join(", ")}` : reason,
    hint: "",
  }));
  return [...locations, ...node.checks].map(describeCheck).join("");
}

export function describeCheck(check: { name: string; ok: boolean; detail: string; hint: string }): string {
  const hint = check.ok || !check.hint ? "" : `  Hint: ${check.hint}\n`;
  return `${check.ok ? "ok  " : "FAIL"}  ${plainText(check.name)}${check.detail ? `: ${plainText(check.detail)}` : ""}\n${plainText(hint)}`;
}

export function isWell(node: Node): boolean {
  return node.checks.every((check) => check.ok) && node.locations.every((location) => location.healthy);
}
