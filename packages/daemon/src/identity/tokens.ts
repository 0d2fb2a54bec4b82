import { hash, randomInt, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";

/**
 * A token is `berth_`, 32 random characters of base 62 (190 bits) and the CRC-32 of those as 6 more: so that a secret scanner finds one by its look, and a
 * mistyped one is refused without asking the store. Only its SHA-256 is kept; with that much randomness a slow hash would add nothing.
 */
const prefix = "berth_";
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const secretLength = 32;
const checksumLength = 6;

/** Makes a new token. Show it once; keep its `hashToken`. */
export function makeToken(): string {
  const secret = Array.from({ length: secretLength }, () => alphabet[randomInt(alphabet.length)]).join("");
  return prefix + secret + checksum(secret);
}

/** Whether a text has the form of a token and its checksum is right. */
export function looksLikeToken(text: string): boolean {
  if (!/^berth_[0-9A-Za-z]{38}$/.test(text)) return false;
  const secret = text.slice(prefix.length, prefix.length + secretLength);
  return text.endsWith(checksum(secret));
}

/** So much of a token as may be shown, to know a found one by: four characters of its secret. */
export function shownPrefix(token: string): string {
  return token.slice(0, prefix.length + 4);
}

/** What is kept of a token: its SHA-256 in hex. */
export function hashToken(token: string): string {
  return hash("sha256", token, "hex");
}

/** Whether a token is the one of this hash; takes the same time wherever the two differ. */
export function verifyToken(token: string, keptHash: string): boolean {
  const given = Buffer.from(hashToken(token), "hex");
  const kept = Buffer.from(keptHash, "hex");
  return given.length === kept.length && timingSafeEqual(given, kept);
}

function checksum(secret: string): string {
  let rest = crc32(secret);
  let digits = "";
  for (let i = 0; i < checksumLength; i += 1) {
    digits = alphabet.charAt(rest % alphabet.length) + digits;
    rest = Math.floor(rest / alphabet.length);
  }
  return digits;
}
