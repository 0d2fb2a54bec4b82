import type { MigrationFile } from "./index.ts";

/** A node asks for those of its instances that run, every few seconds: that must not read the thousands that rest. */
export const instancesByNode: MigrationFile = {
  name: "0002-instances-by-node",
  statements: () => ["create index instance_by_node on instance (node_id, phase, created_at, id)"],
};
