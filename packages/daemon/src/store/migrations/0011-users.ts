import type { MigrationFile } from "./index.ts";

/** People: what they may do, their sessions, one-time codes that set a password, and who failed to log in from where. */
export const users: MigrationFile = {
  name: "0011-users",
  statements: ({ integer, strict }) => [
    `create table person (
      id text primary key,
      name text not null unique,
      admin ${integer} not null,
      password text,
      created_at ${integer} not null,
      last_login_at ${integer}
    ) ${strict}`,
    `create index person_by_age on person (created_at, id)`,
    `create table member (
      user_id text not null references person (id) on delete cascade,
      project text not null references project (name) on update cascade on delete cascade,
      role text not null,
      primary key (user_id, project)
    ) ${strict}`,
    `create index member_by_project on member (project)`,
    `create table session (
      hash text primary key,
      user_id text not null references person (id) on delete cascade,
      created_at ${integer} not null,
      used_at ${integer} not null,
      expires_at ${integer} not null
    ) ${strict}`,
    `create index session_by_user on session (user_id)`,
    `create table password_code (
      hash text primary key,
      user_id text not null references person (id) on delete cascade,
      expires_at ${integer} not null
    ) ${strict}`,
    `create index password_code_by_user on password_code (user_id)`,
    `create table failed_login (
      account text not null,
      address text not null,
      failures ${integer} not null,
      failed_at ${integer} not null,
      primary key (account, address)
    ) ${strict}`,
    `create index failed_login_by_age on failed_login (failed_at)`,
  ],
};
