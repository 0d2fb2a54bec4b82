// biome-ignore-all lint/suspicious/noControlCharactersInRegex: control characters are what is looked for here.

/**
 * What a terminal would obey instead of show: escape sequences (ECMA-48: CSI, OSC, DCS, SOS, PM, APC and the two-character ones) and control characters other
 * than tab and newline.
 */
const sequences =
  /\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|[ -/]*[0-~]?)|\x9b[0-?]*[ -/]*[@-~]?|[\x90\x98\x9d-\x9f][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?/g;
const colour = /^\x1b\[[0-9;]*m$/;
const controls = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
const controlsButEscape = /[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]/g;

/** Text that others wrote, made safe to show: no escape sequences, no control characters. */
export function plainText(text: string): string {
  return text.replace(/\r\n?/g, "\n").replace(sequences, "").replace(controls, "");
}

/** As `plainText`, but colours stay. */
function colouredText(text: string): string {
  return text
    .replace(/\r\n?/g, "\n")
    .replace(sequences, (found) => (colour.test(found) ? found : ""))
    .replace(controlsButEscape, "");
}

const longestSequence = 4096;
/** A sequence, or a line end, that the end of the text may have cut off. */
const unfinished =
  /(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\x9c]*\x1b?|[ -/]*)?|\x9b[0-?]*[ -/]*|[\x90\x98\x9d-\x9f][^\x07\x1b\x9c]*\x1b?|\r)$/;

/** Makes a stream of output safe for a terminal: colours and line ends pass, everything else that a terminal would obey does not, however it is cut. */
export class TerminalFilter {
  readonly #decoder = new TextDecoder();
  #rest = "";

  push(chunk: Uint8Array): string {
    const text = this.#rest + this.#decoder.decode(chunk, { stream: true });
    const cut = unfinished.exec(text);
    // A sequence without an end would hold everything back: what is too long for one is none.
    const from = cut && text.length - cut.index <= longestSequence ? cut.index : text.length;
    this.#rest = text.slice(from);
    return colouredText(text.slice(0, from));
  }

  end(): string {
    const text = this.#rest + this.#decoder.decode();
    this.#rest = "";
    return colouredText(text);
  }
}

/** Rows under a heading, in columns as wide as they need to be. Cells are made plain; a line never ends in blanks. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [heading, ...rows.map((row) => row.map((cell) => plainText(cell).replaceAll("\n", " ")))];
  const widths = heading.map((_, at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)));
  return cells
    .map(
      (row) =>
        `${row
          .map((cell, at) => cell.padEnd(widths[at] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

/** Names and values, one pair to a line. */
export function facts(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length)) + 1;
  return pairs
    .map(([name, value]) => `${`${name}:`.padEnd(width)}  ${plainText(value).replaceAll("\n", " ")}`.trimEnd() + "\n")
    .join("");
}

/** How long ago, in the largest unit that makes sense: 45s, 12m, 3h, 8d. */
export function age(since: string, now: number): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(since)) / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** A moment, exactly and as how long ago that is: `2026-01-02T03:04:05.000Z (8d ago)`. */
export function moment(at: string, now: number): string {
  return `${at} (${age(at, now)} ago)`;
}

/** A time span as a person says it: 0.4 s, 12.3 s, 2 min 5 s. */
export function span(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
}

/** An amount of memory or disk, from MiB. */
export function mebibytes(mib: number): string {
  return mib >= 1024 && (mib * 10) % 1024 === 0 ? `${mib / 1024} GiB` : `${mib} MiB`;
}

/** An amount of bytes. */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const unit = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, count)) / 3)));
  const value = count / 1000 ** unit;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
