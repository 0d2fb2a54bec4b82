import type { Work } from "../work.ts";

/** Work for tests that keeps what was said. */
export function testWork(signal: AbortSignal = new AbortController().signal): Work & { readonly lines: string[] } {
  const lines: string[] = [];
  return { signal, lines, log: (line) => void lines.push(line), progress: () => {} };
}
