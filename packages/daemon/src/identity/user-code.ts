import { randomInt } from "node:crypto";

/** Consonants that are hard to mistake, so that no words come of it (RFC 8628, section 6.1). */
const alphabet = "BCDFGHJKLMNPQRSTVWXZ";
const length = 8;

/** Makes the code that a device shows its user: `WDJB-MJHT`. Of 2.6 × 10¹⁰ there are, few wait at once, and each for ten minutes. */
export function makeUserCode(): string {
  return inHalves(Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join(""));
}

/** A code as somebody typed it, in the form in which it was made. */
export function readUserCode(typed: string): string {
  return inHalves(typed.toUpperCase().replace(/[^A-Z]/g, ""));
}

function inHalves(letters: string): string {
  return `${letters.slice(0, length / 2)}-${letters.slice(length / 2)}`;
}
