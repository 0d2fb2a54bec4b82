/** A part of a file: from `start` on, before `end`. */
export interface Part {
  readonly start: number;
  readonly end: number;
}

/**
 * The part of a file that a Range header asks for (RFC 9110, section 14.2): undefined for all of it, also when several parts are asked for or the header makes no sense;
 * null when the file has no such part. `ifRange` must be the file's own tag, else the copy that is to be completed is of something else. Pure.
 */
export function rangeOf(
  range: string | undefined,
  ifRange: string | undefined,
  file: { readonly sizeBytes: number; readonly tag: string },
): Part | undefined | null {
  const { sizeBytes } = file;
  if (ifRange !== undefined && ifRange !== `"${file.tag}"`) return undefined;
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(range?.trim() ?? "") ?? [];
  if (first === "" && last === "") return undefined;
  if (first === "")
    return last === "0" || sizeBytes === 0 ? null : { start: Math.max(0, sizeBytes - Number(last)), end: sizeBytes };
  const start = Number(first);
  const end = last === "" ? sizeBytes : Math.min(sizeBytes, Number(last) + 1);
  if (last !== "" && Number(last) < start) return undefined;
  return start >= sizeBytes ? null : { start, end };
}
