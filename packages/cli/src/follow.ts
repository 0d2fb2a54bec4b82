import type { Operation } from "@berth/api";
import type { Context } from "./command.ts";
import { Exit, exitCodes, OperationFailed } from "./errors.ts";
import { progressOn } from "./progress.ts";

/**
 * Follows an operation to its end with its progress on standard error. Ctrl-C asks whether to cancel it; where nobody can be asked, and at a second Ctrl-C, it
 * is left running. Throws when it failed or was left.
 */
export async function follow(context: Context, started: Operation): Promise<Operation> {
  const ended = await followToEnd(context, started);
  if (ended.status !== "succeeded") throw failureOf(ended);
  return ended;
}

/** As `follow`, but a failure is answered, not thrown. */
export async function followToEnd(context: Context, started: Operation): Promise<Operation> {
  const client = await context.client();
  const left = new AbortController();
  const progress = progressOn(context.outside);
  let asking: AbortController | undefined;

  const leave = () => left.abort();
  const interrupted = () => {
    if (asking || !context.out.canAsk) return leave();
    asking = new AbortController();
    progress.pause();
    void askWhatToDo(asking.signal).finally(() => {
      asking = undefined;
    });
  };
  const askWhatToDo = async (signal: AbortSignal) => {
    const answer = await context.out.ask(
      `\nCancel ${started.type} of ${started.target.name}? [c] cancel  [l] leave it running  [Enter] go on: `,
      signal,
    );
    // It begins with a question, which some answer with yes.
    if (/^[cy]/i.test(answer))
      await client.cancelOperation({ params: { operation: started.id } }).catch((error) => context.say(error));
    if (/^l/i.test(answer)) leave();
  };

  const stopListening = context.outside.onInterrupt(interrupted);
  try {
    return await client.waitForOperation(started.id, {
      signal: left.signal,
      onProgress: (operation) => {
        if (!asking) progress.show(operation);
      },
    });
  } catch (error) {
    if (!left.signal.aborted) throw error;
    progress.pause();
    context.out.say(`${started.type} of ${started.target.name} goes on without this terminal.`);
    context.out.say(`Wait for it: berth op wait ${started.id}`);
    context.out.say(`Cancel it:   berth op cancel ${started.id}`);
    throw new Exit(exitCodes.interrupted);
  } finally {
    stopListening();
    asking?.abort();
    progress.end();
  }
}

export function failureOf(operation: Operation): Error {
  return new OperationFailed(
    operation.error ?? {
      type: "",
      title: `The operation ${operation.status}`,
      status: 500,
      code: operation.status,
      detail: `${operation.type} of ${operation.target.name} ${operation.status}.`,
      hint: `See berth op show ${operation.id}.`,
    },
  );
}

/**
 * Does something to each of several objects, one after another, and goes on past a failure: the others are done all the same. Throws the only error, or says
 * each and ends with exit code 1.
 */
export async function forEach<N, T>(
  context: Context,
  names: readonly N[],
  work: (name: N) => Promise<T>,
): Promise<T[]> {
  const done: T[] = [];
  const errors: unknown[] = [];
  for (const name of names) {
    try {
      done.push(await work(name));
    } catch (error) {
      if (error instanceof Exit || names.length === 1) throw error;
      errors.push(error);
      context.say(error);
    }
  }
  if (errors.length > 0) {
    if (context.json) context.print(done, () => "");
    throw new Exit(exitCodes.failed);
  }
  return done;
}
