import type { MigrationFile } from "./index.ts";

/** Snapshots that an instance's schedule took. */
export const automaticSnapshots: MigrationFile = {
  name: "0009-automatic-snapshots",
  statements: ({ integer }) => [`alter table snapshot add column automatic ${integer} not null default 0`],
};
