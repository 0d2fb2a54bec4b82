const freeTries = 5;
const firstWaitMs = 60_000;
const longestWaitMs = 3_600_000;

/** How long after its last failure a pair of account and address waits, in milliseconds: nothing for the first few, then twice as long each time, an hour at most. */
export function lockOutMs(failures: number): number {
  if (failures < freeTries) return 0;
  return Math.min(longestWaitMs, firstWaitMs * 2 ** Math.min(30, failures - freeTries));
}

/** What counts as one address: of IPv6 the network of 64 bits, since whoever has one address there has them all. */
export function addressGroup(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
  if (!plain.includes(":")) return plain;
  const [head = "", tail = ""] = plain.split("::");
  const first = head === "" ? [] : head.split(":");
  const last = tail === "" ? [] : tail.split(":");
  const filled = [...first, ...Array.from({ length: Math.max(0, 8 - first.length - last.length) }, () => "0"), ...last];
  return `${filled
    .slice(0, 4)
    .map((part) => Number.parseInt(part, 16).toString(16))
    .join(":")}::/64`;
}
