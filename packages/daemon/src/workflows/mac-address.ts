import { createHash } from "node:crypto";

/**
 * The MAC address of an instance's n-th interface: the same each time, so that nothing needs to remember it. Locally administered and
 * unicast (IEEE 802, second-least significant bit of the first octet), 46 bits of the id's SHA-256.
 */
export function macAddress(instanceId: string, index: number): string {
  const digest = createHash("sha256").update(`${instanceId}/${index}`).digest();
  const octets = [((digest[0] ?? 0) & 0xfc) | 0x02, ...digest.subarray(1, 6)];
  return octets.map((octet) => octet.toString(16).padStart(2, "0")).join(":");
}
