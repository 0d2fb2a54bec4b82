import { join } from "node:path";
import { inject } from "vitest";
import { claimPort } from "./claim-port.ts";

/** A port of the loopback address that is free and that no other test of this run was or will be given. */
export function freePort(): Promise<number> {
  return claimPort(join(inject("runFolder"), "ports"));
}
