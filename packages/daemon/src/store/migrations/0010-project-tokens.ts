import type { MigrationFile } from "./index.ts";

/**
 * Tokens are told apart by name within their project, may be limited to scopes, and stay as rows when they are revoked: so that no file that still has one brings
 * it back. Until now berthd itself had made them all, under one name.
 */
export const projectTokens: MigrationFile = {
  name: "0010-project-tokens",
  statements: ({ integer }) => [
    `alter table token add column scopes text`,
    `alter table token add column prefix text not null default ''`,
    `alter table token add column revoked_at ${integer}`,
    `update token set name = 'admin-of-' || substr(id, 3)`,
    `create unique index token_by_name on token (coalesce(project, ''), name) where revoked_at is null`,
    `create index token_by_age on token (created_at, id)`,
  ],
};
