/** The tables, as Kysely sees them. */
export type Database = Record<never, never>;
