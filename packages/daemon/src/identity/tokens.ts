import { hash, randomInt, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";

/**
 * A token is `berth_` (the secret of a session `berths_`, a code that sets a password `berthr_`, a refresh token `berthf_`, an authorization code `berthc_`, a device code `berthd_`), 32 random characters of base 62 (190 bits) and the CRC-32 of those as 6 more: so that a secret scanner finds one by its look, and a
 * mistyped one is refused without asking the store. Only its SHA-256 is kept; with that much randomness a slow hash would add nothing.
 */
const prefixes = {
  token: "berth_",
  session: "berths_",
  code: "berthr_",
  refresh: "berthf_",
  authorization: "berthc_",
  device: "berthd_",
} as const;
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const secretLength = 32;
const checksumLength = 6;

/** What is secret and made by berthd. */
export type SecretKind = keyof typeof prefixes;

/** Makes a new token, or another secret of the same form. Show it once; keep its `hashToken`. */
export function makeToken(kind: SecretKind = "token"): string {
  const secret = Array.from({ length: secretLength }, () => alphabet[randomInt(alphabet.length)]).join("");
  return prefixes[kind] + secret + checksum(secret);
}

/** Whether a text has the form of a token, or of another secret, and its checksum is right. */
export function looksLikeToken(text: string, kind: SecretKind = "token"): boolean {
  const prefix = prefixes[kind];
  const rest = text.slice(prefix.length);
  if (!text.startsWith(prefix) || !/^[0-9A-Za-z]{38}$/.test(rest)) return false;
  return rest.endsWith(checksum(rest.slice(0, secretLength)));
}

/** So much of a token as may be shown, to know a found one by: four characters of its secret. */
export function shownPrefix(token: string): string {
  return token.slice(0, prefixes.token.length + 4);
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
