import { type IdKind, idPrefixes } from "@berth/api";

/** A new id: 68 random bits as 17 hex digits behind the kind's prefix. Two of a billion ids collide with a probability of about 1 in 600. */
export function newId(kind: IdKind): string {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${idPrefixes[kind]}-${digits.slice(0, 17)}`;
}
