import { first } from "./0001-first.ts";
import { instancesByNode } from "./0002-instances-by-node.ts";
import { changedInstances } from "./0003-changed-instances.ts";
import { templates } from "./0004-templates.ts";
import { archives } from "./0005-archives.ts";
import { snapshots } from "./0006-snapshots.ts";
import { pools } from "./0007-pools.ts";
import { savedMemory } from "./0008-saved-memory.ts";
import { automaticSnapshots } from "./0009-automatic-snapshots.ts";
import { projectTokens } from "./0010-project-tokens.ts";
import { users } from "./0011-users.ts";
import { quotas } from "./0012-quotas.ts";
import { oauth } from "./0013-oauth.ts";
import { authorizations } from "./0014-authorizations.ts";

/** What differs in the SQL of the two stores. */
export interface SqlWords {
  /** A 64-bit number. */
  readonly integer: string;
  /** A primary key that counts up by itself. */
  readonly serial: string;
  /** Follows a table's columns: makes SQLite check types as PostgreSQL does. */
  readonly strict: string;
}

/** One step forward of the schema; there is no way back. Once released it never changes: its digest is kept in the store. */
export interface MigrationFile {
  /** Its file's name; the order of names is the order of running. */
  readonly name: string;
  readonly statements: (words: SqlWords) => readonly string[];
}

/** All migrations, oldest first. A new one is a file and a line here. */
export const migrations: readonly MigrationFile[] = [
  first,
  instancesByNode,
  changedInstances,
  templates,
  archives,
  snapshots,
  pools,
  savedMemory,
  automaticSnapshots,
  projectTokens,
  users,
  quotas,
  oauth,
  authorizations,
];
