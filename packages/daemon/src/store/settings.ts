import type { z } from "zod";
import { readJson } from "./json.ts";
import type { Queries } from "./store.ts";

/** What is kept under a name, as its schema says; undefined when nothing is. */
export async function readSetting<T extends z.ZodType>(
  queries: Queries,
  name: string,
  schema: T,
): Promise<z.output<T> | undefined> {
  const row = await queries.selectFrom("setting").select("value").where("name", "=", name).executeTakeFirst();
  return row && readJson(schema, row.value, `setting ${name}`);
}

/** Keeps a JSON value under a name, in place of an earlier one. */
export async function writeSetting(queries: Queries, name: string, value: unknown): Promise<void> {
  const text = JSON.stringify(value);
  await queries
    .insertInto("setting")
    .values({ name, value: text })
    .onConflict((conflict) => conflict.column("name").doUpdateSet({ value: text }))
    .execute();
}
