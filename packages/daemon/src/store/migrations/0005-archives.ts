import type { MigrationFile } from "./index.ts";

/** Instances in files, which are kept on their nodes for a while. */
export const archives: MigrationFile = {
  name: "0005-archives",
  statements: ({ integer, strict }) => [
    `create table archive (
      id text primary key,
      project text not null references project (name) on update cascade,
      node_id text not null,
      name text not null,
      source text not null,
      size_bytes ${integer},
      beginning text,
      created_at ${integer} not null,
      expires_at ${integer} not null
    ) ${strict}`,
    `create index archive_by_age on archive (project, created_at, id)`,
    `create index archive_by_end on archive (node_id, expires_at)`,
  ],
};
