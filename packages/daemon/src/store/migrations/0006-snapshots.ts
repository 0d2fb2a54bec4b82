import type { MigrationFile } from "./index.ts";

/** Snapshots, which stay when their instance goes, and what an instance was made from when that is not its image alone. */
export const snapshots: MigrationFile = {
  name: "0006-snapshots",
  statements: ({ integer, strict }) => [
    `create table snapshot (
      id text primary key,
      project text not null references project (name) on update cascade,
      name text not null,
      instance_id text not null,
      instance_name text not null,
      consistency text not null,
      state text not null,
      image_id text not null references image (id),
      image text not null,
      location text not null,
      node_id text not null,
      spec text not null,
      disks text not null,
      folder text not null unique,
      own_bytes ${integer} not null,
      shared_bytes ${integer} not null,
      verdict text not null,
      verdict_reason text not null,
      verified_at ${integer},
      created_at ${integer} not null,
      unique (project, name)
    ) ${strict}`,
    "create index snapshot_by_age on snapshot (project, created_at, id)",
    "create index snapshot_by_instance on snapshot (instance_id, created_at, id)",
    "create index snapshot_by_node on snapshot (node_id)",
    "create index snapshot_by_image on snapshot (image_id)",
    "alter table instance add column origin text",
    "alter table instance add column layers text",
  ],
};
