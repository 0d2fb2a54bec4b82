import { EventEmitter } from "node:events";

/** How often a waiter looks by itself, whether it was woken or not: a lost wake-up costs this much and no more. */
const pollMs = 1000;

/** Tells waiters in this process that something has changed. What happened stands in the store; a wake-up only says to look. */
export class WakeChannel {
  readonly #emitter = new EventEmitter().setMaxListeners(0);

  /** Wakes who waits for `topic` in this process. */
  emit(topic: string): void {
    this.#emitter.emit(topic);
  }

  /** Calls back at once whenever `topic` is woken; returns how to stop that. A lost wake-up is not made up for. */
  onWake(topic: string, listener: () => void): () => void {
    this.#emitter.on(topic, listener);
    return () => this.#emitter.off(topic, listener);
  }

  /** Begins to listen. Subscribe before looking, then wait: a wake-up in between is not lost. Dispose of it afterwards. */
  subscribe(topic: string): Subscription {
    let woken = false;
    let resolveWait: (() => void) | undefined;
    const onWake = () => {
      woken = true;
      resolveWait?.();
    };
    this.#emitter.on(topic, onWake);
    return {
      wake: onWake,
      wait: async (signal, timeoutMs = pollMs) => {
        if (!woken && !signal.aborted) {
          const { promise, resolve } = Promise.withResolvers<void>();
          const finish = () => resolve();
          const timer = setTimeout(finish, Math.max(0, Math.min(timeoutMs, pollMs)));
          signal.addEventListener("abort", finish);
          resolveWait = finish;
          await promise;
          clearTimeout(timer);
          signal.removeEventListener("abort", finish);
        }
        woken = false;
      },
      [Symbol.dispose]: () => this.#emitter.off(topic, onWake),
    };
  }
}

/** Someone who waits for a topic. */
export interface Subscription extends Disposable {
  /** Wakes this waiter alone. */
  wake(): void;
  /** Resolves when woken since the last wait, after `timeoutMs` (a second at most), or when aborted. */
  wait(signal: AbortSignal, timeoutMs?: number): Promise<void>;
}
