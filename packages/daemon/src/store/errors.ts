/** The store cannot be used as it is; the message says why and what to do. Thrown at start, before any request is taken. */
export class StoreError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "StoreError";
  }
}

/** The number SQLite gives an error (https://sqlite.org/rescode.html), without its extension; undefined when it is none of SQLite's. */
export function sqliteCode(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === "number" ? code & 0xff : undefined;
}

/** The five characters PostgreSQL gives an error (its manual, appendix A); undefined when it is none of its. */
function postgresCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** Whether a transaction that failed so was rolled back for a reason that passes by itself: another one was in its way. */
export function isConflict(error: unknown): boolean {
  // SQLITE_BUSY; serialization_failure, deadlock_detected.
  return sqliteCode(error) === 5 || ["40001", "40P01"].includes(postgresCode(error) ?? "");
}

/** Whether there was no room left to write. */
export function isDiskFull(error: unknown): boolean {
  // SQLITE_FULL; SQLITE_IOERR_SHMSIZE, of the file that readers share.
  const { errcode } = (error ?? {}) as { errcode?: unknown };
  return errcode === 4874 || sqliteCode(error) === 13 || postgresCode(error) === "53100";
}

/** Whether a row has what only one may have. */
export function isUniqueViolation(error: unknown): boolean {
  return (error as { errcode?: unknown } | null)?.errcode === 2067 || postgresCode(error) === "23505";
}

/** Whether a row refers to one that is not there, or is still referred to. */
export function isForeignKeyViolation(error: unknown): boolean {
  return (error as { errcode?: unknown } | null)?.errcode === 787 || postgresCode(error) === "23503";
}

/** Waits for a write that can be missed: on a full disk it is, so that whoever comes to make room is let in. */
export async function unlessDiskFull(write: Promise<void>): Promise<void> {
  try {
    await write;
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
}
