import { BerthError } from "@berth/api";

/** The deepest nesting a body may have; our own schemas need six. */
export const maxJsonDepth = 32;

/** Refuses JSON nested so deep that code which walks it could run out of stack. Looks at brackets only; whether it is JSON at all is the parser's to say. */
export function checkJsonDepth(text: string, max = maxJsonDepth): void {
  let depth = 0;
  for (let i = 0; i < text.length; i += 1) {
    const character = text.charCodeAt(i);
    if (character === 0x22) i = endOfString(text, i);
    else if (character === 0x7b || character === 0x5b) depth += 1;
    else if (character === 0x7d || character === 0x5d) depth -= 1;
    if (depth > max) throw new BerthError("invalid_request", `The body is nested deeper than ${max} levels.`);
  }
}

/** The index of the quote that ends the string beginning at `start`. */
function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text.charCodeAt(i) !== 0x22) i += text.charCodeAt(i) === 0x5c ? 2 : 1;
  return i;
}

/** JSON with the keys of objects in order, so that the same content is always the same text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
