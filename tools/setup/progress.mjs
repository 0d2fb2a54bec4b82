/** Something the machine lacks and the set-up cannot bring: the message says what and how to get it. */
export class SetupError extends Error {}

/** @type {{ name: string; ms: number }[]} */
const phases = [];

/**
 * Tells what is being done, does it and tells how long it took.
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function phase(name, work) {
  console.log(`• ${name} …`);
  const before = performance.now();
  const result = await work();
  const ms = performance.now() - before;
  phases.push({ name, ms });
  console.log(`  done in ${(ms / 1000).toFixed(1)} s`);
  return result;
}

/** The parts of the set-up that had something to do, with their times, for a summary. */
export function phasesSoFar() {
  return phases;
}
