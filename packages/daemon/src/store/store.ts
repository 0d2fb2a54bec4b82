import type { Kysely, Transaction as KyselyTransaction } from "kysely";
import type { Database } from "./schema.ts";

/** A connection or transaction; queries take either. */
export type Queries = Kysely<Database>;
export type Transaction = KyselyTransaction<Database>;
