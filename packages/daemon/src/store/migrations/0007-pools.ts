import type { MigrationFile } from "./index.ts";

/** Machines that were cloned before anybody asked for them. Each has the id that the instance will have which claims it. */
export const pools: MigrationFile = {
  name: "0007-pools",
  statements: ({ integer, strict }) => [
    `create table pool (
      id text primary key,
      project text not null references project (name) on update cascade,
      name text not null,
      image text not null,
      location text not null,
      node_id text not null,
      cpus ${integer} not null,
      memory_mib ${integer} not null,
      size ${integer} not null,
      uses ${integer} not null,
      state text not null,
      reason text not null,
      failures ${integer} not null,
      failed_at ${integer},
      created_at ${integer} not null,
      updated_at ${integer} not null,
      unique (project, name)
    ) ${strict}`,
    `create index pool_by_age on pool (project, created_at, id)`,
    `create table pool_member (
      id text primary key,
      pool_id text not null references pool (id),
      project text not null,
      location text not null,
      node_id text not null,
      shape_key text not null,
      shape text not null,
      state text not null,
      created_at ${integer} not null
    ) ${strict}`,
    `create index pool_member_by_pool on pool_member (pool_id, created_at)`,
    `create index pool_member_to_claim on pool_member (project, location, shape_key, created_at) where state = 'ready'`,
  ],
};
