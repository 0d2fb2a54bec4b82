import { BerthError } from "@berth/api";

/** Asks again whether somebody may still have what he is being given; throws or rejects as it was when he first asked. */
export type AskAgain = () => Promise<void>;

/** An answer that takes long, such as an event stream or a console. */
export interface LongAnswer extends Disposable {
  /** Aborted, with the reason, once its receiver may not have it any more. */
  readonly signal: AbortSignal;
}

/** Keeps those who are given something over a longer time to what they may: each is asked about again and again, and at once when somebody may do less than before. */
export class LongAnswers {
  readonly #open = new Map<AbortController, AskAgain>();
  readonly #everyMs: number;
  #timer: NodeJS.Timeout | undefined;
  #asking: Promise<void> | undefined;
  #again = false;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
  }

  /** Begins to ask about one, until it is disposed of. */
  begin(askAgain: AskAgain): LongAnswer {
    const controller = new AbortController();
    this.#open.set(controller, askAgain);
    this.#timer ??= setInterval(() => this.askAll(), this.#everyMs).unref();
    return {
      signal: controller.signal,
      [Symbol.dispose]: () => {
        this.#open.delete(controller);
        if (this.#open.size > 0) return;
        clearInterval(this.#timer);
        this.#timer = undefined;
      },
    };
  }

  /** Asks about all of them now. */
  askAll(): void {
    this.#again = true;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
  }

  /** One after the other, so that those with the same token cost one look at it. */
  async #ask(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      for (const [controller, askAgain] of this.#open) {
        try {
          await askAgain();
        } catch (error) {
          // A store that does not answer takes nothing away from anybody.
          if (isRefusal(error)) controller.abort(error);
        }
      }
    }
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof BerthError && (error.code === "unauthenticated" || error.code === "forbidden");
}
