import type { MigrationFile } from "./index.ts";

/** What users have allowed programs, or are asked to, until the program has fetched its tokens: authorization codes and device codes of OAuth 2.0. */
export const authorizations: MigrationFile = {
  name: "0014-authorizations",
  statements: ({ integer, strict }) => [
    `create table login_authorization (
      hash text primary key,
      user_code text unique,
      code_challenge text,
      redirect_uri text,
      scopes text,
      user_id text references person (id) on delete cascade,
      grant_id text,
      refused_at ${integer},
      asked_at ${integer},
      expires_at ${integer} not null
    ) ${strict}`,
  ],
};
