/** How many objects are remembered; a dashboard asks for a few hundred again and again. */
const maxRemembered = 500;

/**
 * What `read` makes of a row, remembered for as long as every column of that row is the same. It needs no word of who changed what, so it is right whoever writes
 * to the store. The objects are shared and therefore frozen.
 */
export function rememberByRow<Row extends { readonly id: string }, T>(read: (row: Row) => T): (row: Row) => T {
  const known = new Map<string, { row: Row; readonly object: T }>();
  return (row) => {
    const before = known.get(row.id);
    if (before && isSameRow(before.row, row)) {
      // The store may give this very row again, and then no column needs to be looked at.
      before.row = row;
      return before.object;
    }
    const object = freeze(read(row));
    if (known.size >= maxRemembered) known.clear();
    known.set(row.id, { row, object });
    return object;
  };
}

function isSameRow<Row extends object>(one: Row, other: Row): boolean {
  if (one === other) return true;
  for (const column in one) if (one[column] !== other[column]) return false;
  for (const column in other) if (!(column in one)) return false;
  return true;
}

function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  for (const part of Object.values(value)) freeze(part);
  return Object.freeze(value);
}
