/** Work that several may ask for at once and that is done once: for each key one run, which ends early only when all who asked have left. */
export interface SharedWork<Result, Listener> {
  /**
   * Joins the run for this key, or starts it. `tellAll` reaches the listeners of all who wait at that moment.
   * Rejects with the signal's reason as soon as it is aborted, the run's own error otherwise.
   */
  run(
    key: string,
    start: (signal: AbortSignal, tellAll: (tell: (listener: Listener) => void) => void) => Promise<Result>,
    listener: Listener,
    signal: AbortSignal,
  ): Promise<Result>;
  isRunning(key: string): boolean;
}

interface Run<Result, Listener> {
  readonly done: Promise<Result>;
  readonly controller: AbortController;
  readonly listeners: Set<Listener>;
}

/** Keeps nothing of a run that has ended, its error neither: the next who asks for its key starts another. */
export function createSharedWork<Result, Listener extends object>(): SharedWork<Result, Listener> {
  const runs = new Map<string, Run<Result, Listener>>();

  return {
    isRunning: (key) => runs.has(key),
    async run(key, start, listener, signal) {
      signal.throwIfAborted();
      let run = runs.get(key);
      if (!run) {
        const controller = new AbortController();
        const listeners = new Set<Listener>();
        const done = start(controller.signal, (tell) => listeners.forEach(tell));
        const begun: Run<Result, Listener> = { done, controller, listeners };
        const forget = () => {
          if (runs.get(key) === begun) runs.delete(key);
        };
        done.then(forget, forget);
        runs.set(key, begun);
        run = begun;
      }
      const { done, controller, listeners } = run;
      // An object of its own, so that one listener given twice counts twice.
      const own = Object.create(listener) as Listener;
      listeners.add(own);
      const left = Promise.withResolvers<never>();
      const leave = () => left.reject(signal.reason);
      signal.addEventListener("abort", leave, { once: true });
      try {
        return await Promise.race([done, left.promise]);
      } finally {
        signal.removeEventListener("abort", leave);
        listeners.delete(own);
        if (listeners.size === 0 && runs.get(key) === run) {
          runs.delete(key);
          controller.abort(signal.reason);
          // Whoever left last sees its traces gone.
          await done.catch(() => {});
        }
      }
    },
  };
}
