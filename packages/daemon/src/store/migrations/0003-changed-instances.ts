import type { MigrationFile } from "./index.ts";

/** What a run was started with, so that later wishes can be told from it; and what an unfinished change goes back to. */
export const changedInstances: MigrationFile = {
  name: "0003-changed-instances",
  statements: () => ["alter table instance add column run text", "alter table instance add column open_changes text"],
};
