import { randomBytes } from "node:crypto";
import { type IdKind, idPrefixes } from "@berth/api";

/** A new id: 68 random bits as 17 hex digits behind the kind's prefix. Two of a billion ids collide with a probability of about 1 in 600. */
export function newId(kind: IdKind): string {
  return `${idPrefixes[kind]}-${randomBytes(9).toString("hex").slice(0, 17)}`;
}
