import type { z } from "zod";

/** The value of a JSON column. Text that its schema refuses was not written by this version; the error names the column. */
export function readJson<T extends z.ZodType>(schema: T, text: string, column: string): z.output<T> {
  const parsed = schema.safeParse(JSON.parse(text));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new Error(
      `the store's ${column} is not as this version writes it: ${issue?.path.join(".")} ${issue?.message}`,
    );
  }
  return parsed.data;
}

/** A time column as the API shows it. */
export function toTimestamp(ms: number): string {
  return new Date(ms).toISOString();
}
