import type { MigrationFile } from "./index.ts";

/** The most that a project may have; null for as much as there is, as in a project without a row. */
export const quotas: MigrationFile = {
  name: "0012-quotas",
  statements: ({ integer, strict }) => [
    `create table quota (
      project text primary key references project (name) on update cascade on delete cascade,
      instances ${integer},
      cpus ${integer},
      memory_mib ${integer},
      disk_mib ${integer},
      ports ${integer},
      images ${integer}
    ) ${strict}`,
  ],
};
