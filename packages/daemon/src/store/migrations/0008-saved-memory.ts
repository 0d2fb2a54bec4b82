import type { MigrationFile } from "./index.ts";

/** Snapshots with memory, and instances that are to go on from some. */
export const savedMemory: MigrationFile = {
  name: "0008-saved-memory",
  statements: ({ integer }) => [
    "alter table snapshot add column kind text not null default 'disk'",
    `alter table snapshot add column memory_bytes ${integer} not null default 0`,
    "alter table instance add column memory text",
  ],
};
