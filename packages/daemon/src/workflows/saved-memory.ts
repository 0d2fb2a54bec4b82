import type { Snapshot } from "@berth/api";
import type { SavedMemory } from "../store/instances.ts";

/** What the guest of an instance is told that goes on from a snapshot's memory: whose that is, unless it is its own. */
export function originOf(
  { instanceId, instanceName }: Pick<Snapshot, "instanceId" | "instanceName">,
  id: string,
): SavedMemory["origin"] {
  const parent = instanceId === id ? null : { id: instanceId, name: instanceName };
  return { kind: "restore", parent, index: 0 };
}
