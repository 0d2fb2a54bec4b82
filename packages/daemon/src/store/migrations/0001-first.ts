import type { MigrationFile } from "./index.ts";

/** Everything the walking skeleton remembers. */
export const first: MigrationFile = {
  name: "0001-first",
  statements: ({ integer, serial, strict }) => [
    `create table counter (
      name text primary key,
      value ${integer} not null
    ) ${strict}`,
    `insert into counter (name, value) values ('event', 0)`,

    `create table project (
      id text primary key,
      name text not null unique,
      created_at ${integer} not null
    ) ${strict}`,
    `insert into project (id, name, created_at) values ('p-00000000000000000', 'default', berth_now())`,

    `create table image (
      id text primary key,
      project text not null references project (name) on update cascade,
      source text not null,
      state text not null,
      reason text not null,
      content_digest text,
      kind text not null,
      os text not null,
      architecture text not null,
      firmware text not null,
      size_bytes ${integer},
      start_config text,
      operation_id text,
      created_at ${integer} not null,
      updated_at ${integer} not null
    ) ${strict}`,
    `create index image_by_age on image (project, created_at, id)`,
    `create index image_by_digest on image (project, content_digest)`,
    `create table image_reference (
      project text not null references project (name) on update cascade,
      reference text not null,
      image_id text not null references image (id) on delete cascade,
      created_at ${integer} not null,
      primary key (project, reference)
    ) ${strict}`,
    `create index image_reference_by_image on image_reference (image_id)`,

    `create table instance (
      id text primary key,
      project text not null references project (name) on update cascade,
      name text not null,
      labels text not null,
      image_id text not null references image (id),
      image text not null,
      location text not null,
      node_id text not null,
      spec text not null,
      status text not null,
      phase text not null,
      handle text,
      generation ${integer} not null,
      created_at ${integer} not null,
      updated_at ${integer} not null,
      unique (project, name)
    ) ${strict}`,
    `create index instance_by_age on instance (project, created_at, id)`,
    `create index instance_by_phase on instance (project, phase, created_at, id)`,
    `create index instance_by_image on instance (image_id)`,
    `create table instance_label (
      instance_id text not null references instance (id) on delete cascade,
      key text not null,
      value text not null,
      project text not null,
      created_at ${integer} not null,
      primary key (instance_id, key)
    ) ${strict}`,
    `create index instance_label_by_value on instance_label (project, key, value, created_at, instance_id)`,
    `create index instance_label_by_key on instance_label (project, key, created_at, instance_id)`,

    `create table operation (
      seq ${serial},
      id text not null unique,
      type text not null,
      project text not null references project (name) on update cascade,
      target_kind text not null,
      target_id text not null,
      target_name text not null,
      rank ${integer} not null,
      input text not null,
      requested_by text not null,
      status text not null,
      reason text not null,
      result text,
      error text,
      ending text,
      node_id text,
      attempt ${integer} not null,
      failures ${integer} not null,
      waiting ${integer} not null,
      waits_for text,
      wakes ${integer} not null,
      claims_missing ${integer} not null,
      cancel_requested ${integer} not null,
      due_at ${integer} not null,
      lease_owner text,
      lease_until ${integer} not null,
      fence ${integer} not null,
      created_at ${integer} not null,
      started_at ${integer},
      ended_at ${integer}
    ) ${strict}`,
    `create index operation_by_age on operation (project, seq)`,
    `create index operation_by_status on operation (project, status, seq)`,
    `create index operation_by_target on operation (target_id, seq)`,
    `create index operation_due on operation (due_at) where ended_at is null`,
    `create index operation_unfinished on operation (project, seq) where ended_at is null`,
    `create index operation_ended on operation (ended_at) where ended_at is not null`,
    `create index operation_waits_for on operation (waits_for) where waits_for is not null`,
    `create table operation_step (
      operation_id text not null references operation (id) on delete cascade,
      name text not null,
      position ${integer} not null,
      status text not null,
      result text,
      failures ${integer} not null,
      undo_failures ${integer} not null,
      started_at ${integer} not null,
      ended_at ${integer},
      percent ${integer},
      detail text,
      primary key (operation_id, name)
    ) ${strict}`,
    `create table operation_claim (
      resource text not null,
      operation_id text not null references operation (id) on delete cascade,
      held ${integer} not null,
      rank ${integer} not null,
      seq ${integer} not null,
      primary key (resource, operation_id)
    ) ${strict}`,
    `create unique index operation_claim_held on operation_claim (resource) where held = 1`,
    `create index operation_claim_by_operation on operation_claim (operation_id)`,
    `create table operation_log (
      operation_id text not null references operation (id) on delete cascade,
      seq ${integer} not null,
      at ${integer} not null,
      line text not null,
      primary key (operation_id, seq)
    ) ${strict}`,

    `create table event (
      seq ${integer} primary key,
      type text not null,
      project text not null,
      subject_kind text not null,
      subject_id text not null,
      subject_name text not null,
      operation_id text,
      data text not null,
      at ${integer} not null
    ) ${strict}`,
    `create index event_by_project on event (project, seq)`,
    `create index event_by_subject on event (subject_id, seq)`,
    `create index event_by_type on event (type, seq)`,
    `create index event_by_age on event (at)`,

    `create table idempotency_key (
      project text not null,
      token_id text not null,
      key text not null,
      request_hash text not null,
      status ${integer} not null,
      response text not null,
      created_at ${integer} not null,
      expires_at ${integer} not null,
      primary key (project, token_id, key)
    ) ${strict}`,
    `create index idempotency_key_by_end on idempotency_key (expires_at)`,

    `create table node (
      id text primary key,
      name text not null unique,
      facts text not null,
      started_at ${integer} not null,
      seen_at ${integer} not null
    ) ${strict}`,
    `create table token (
      id text primary key,
      name text not null,
      hash text not null unique,
      role text not null,
      project text references project (name) on update cascade,
      created_at ${integer} not null,
      used_at ${integer},
      expires_at ${integer}
    ) ${strict}`,
    `create table setting (
      name text primary key,
      value text not null
    ) ${strict}`,
  ],
};
