import type { MigrationFile } from "./index.ts";

/** Logins of programs: grants of OAuth 2.0 with their refresh tokens, and the keys by which access tokens are verified. Private keys are in no store. */
export const oauth: MigrationFile = {
  name: "0013-oauth",
  statements: ({ integer, strict }) => [
    `create table signing_key (
      id text primary key,
      public_key text not null,
      expires_at ${integer} not null
    ) ${strict}`,
    `create table login_grant (
      id text primary key,
      user_id text not null references person (id) on delete cascade,
      scopes text,
      created_at ${integer} not null,
      expires_at ${integer} not null
    ) ${strict}`,
    `create index login_grant_by_user on login_grant (user_id)`,
    `create table refresh_token (
      hash text primary key,
      grant_id text not null references login_grant (id) on delete cascade,
      used_at ${integer}
    ) ${strict}`,
    `create index refresh_token_by_grant on refresh_token (grant_id)`,
  ],
};
