/** How exactly a last use is known, in milliseconds: a minute. Writing it at each request would cost more than most requests. */
const exactToMs = 60_000;

/** Whether a use just now need not be written down: one at `usedAt` (milliseconds since the epoch) was. */
export function isNoted(usedAt: number): boolean {
  return Math.abs(Date.now() - usedAt) < exactToMs;
}
