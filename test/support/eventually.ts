import { vi } from "vitest";

/**
 * Looks again and again until `look` does not throw, and resolves with what it returned. For what can only be seen by looking; what has an event, a log or an answer that
 * waits is awaited by that. The time limit only keeps a failing test from hanging: it is never part of what is tested, so it is far longer than the slowest
 * machine takes.
 */
export function eventually<T>(look: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(look, { timeout: 120_000, interval: 50 });
}
