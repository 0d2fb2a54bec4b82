import { UsageError } from "./errors.ts";

const factors: Readonly<Record<string, number>> = { "": 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** An amount of memory or disk as docker takes it (`512M`, `2g`, `1.5G`, plain bytes), in MiB, rounded up. */
export function parseMebibytes(input: string): number {
  const match = /^(\d+(?:\.\d+)?)([bkmgt]?)(?:i?b)?$/i.exec(input);
  const factor = factors[match?.[2]?.toLowerCase() ?? ""];
  if (!match || factor === undefined) throw new SyntaxError("must be an amount such as 512M or 4G");
  const amount = Number(match[1]) * factor;
  if (amount < 2 ** 20) throw new SyntaxError(`${input} is ${amount} bytes; for mebibytes write ${match[1]}M`);
  return Math.ceil(amount / 2 ** 20);
}

/** Seconds as docker's --stop-timeout takes them, in milliseconds. */
export function parseSeconds(input: string): number {
  if (!/^\d{1,6}(\.\d{1,3})?$/.test(input)) throw new SyntaxError("must be a number of seconds");
  return Math.round(Number(input) * 1000);
}

const spanFactors: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** A time span in one unit (`45s`, `30m`, `12h`, `7d`, `4w`, or 0), in milliseconds. */
export function parseSpan(input: string): number {
  const [, count = "", unit = ""] = /^(\d{1,6})([smhdw]?)$/.exec(input) ?? [];
  const factor = unit === "" && Number(count) === 0 && count !== "" ? 1 : spanFactors[unit];
  if (factor === undefined) throw new SyntaxError("must be a time such as 30m, 12h or 7d");
  return Number(count) * factor * 1000;
}

/** How long nobody needs an instance before it sleeps: seconds, or a span (`60`, `90s`, `10m`), or `off`. */
export function parseIdle(input: string): { autosuspend: { idleSeconds: number } | null } {
  if (input === "off") return { autosuspend: null };
  const idleSeconds = parseSpan(/^\d+$/.test(input) ? `${input}s` : input) / 1000;
  if (idleSeconds < 1) throw new SyntaxError("must be at least a second, or off");
  return { autosuspend: { idleSeconds } };
}

/** CPUs: whole ones, as a machine has them. */
export function parseCpus(input: string): number {
  if (!/^[1-9]\d{0,3}$/.test(input)) throw new SyntaxError("must be a whole number of CPUs from 1 on");
  return Number(input);
}

/** Labels, `key=value` or `key`. */
export function parseLabels(labels: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    labels.map((label) => {
      const at = label.indexOf("=");
      const [key, value] = at < 0 ? [label, ""] : [label.slice(0, at), label.slice(at + 1)];
      if (!key) throw new UsageError(`A label needs a name: --label team=a, not "${label}".`);
      return [key, value];
    }),
  );
}
