import type { MigrationFile } from "./index.ts";

/** Memory of booted machines, from which instances of one shape are cloned; one for each shape, project and location. */
export const templates: MigrationFile = {
  name: "0004-templates",
  statements: ({ integer, strict }) => [
    `create table template (
      id text primary key,
      project text not null references project (name) on update cascade,
      location text not null,
      node_id text not null,
      shape_key text not null,
      shape text not null,
      image text not null,
      state text not null,
      reason text not null,
      size_bytes ${integer},
      uses ${integer} not null,
      last_used_at ${integer},
      failures ${integer} not null,
      operation_id text,
      created_at ${integer} not null,
      updated_at ${integer} not null,
      unique (project, location, shape_key)
    ) ${strict}`,
    `create index template_by_age on template (project, created_at, id)`,
  ],
};
