/** Looks at each thing once at a time, at so many things at once, in the order they were asked for. Asked again during a look, once more afterwards. */
export class Looks {
  readonly #limit: number;
  readonly #look: (id: string) => Promise<void>;
  readonly #onError: (id: string, error: unknown) => void;
  readonly #waiting = new Map<string, PromiseWithResolvers<void>>();
  readonly #busy = new Map<string, Promise<void>>();

  constructor(limit: number, look: (id: string) => Promise<void>, onError: (id: string, error: unknown) => void) {
    this.#limit = limit;
    this.#look = look;
    this.#onError = onError;
  }

  /** Resolves when a look that began after this call has ended, well or not. */
  ask(id: string): Promise<void> {
    let turn = this.#waiting.get(id);
    if (!turn) {
      turn = Promise.withResolvers();
      this.#waiting.set(id, turn);
      this.#next();
    }
    return turn.promise;
  }

  /** Resolves when nothing is waiting or being looked at. */
  async idle(): Promise<void> {
    while (this.#busy.size > 0) await Promise.all(this.#busy.values());
  }

  #next(): void {
    for (const [id, turn] of this.#waiting) {
      if (this.#busy.size >= this.#limit) return;
      if (this.#busy.has(id)) continue;
      this.#waiting.delete(id);
      this.#busy.set(id, this.#run(id, turn));
    }
  }

  async #run(id: string, turn: PromiseWithResolvers<void>): Promise<void> {
    try {
      await this.#look(id);
    } catch (error) {
      this.#onError(id, error);
    }
    this.#busy.delete(id);
    this.#next();
    turn.resolve();
  }
}
