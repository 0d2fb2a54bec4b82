import { ApiError, UnreachableError } from "./api-error.ts";
import { type ClientControl, type ExecRequestInput, type ExecSignal, execFrames, ServerControl } from "./instance.ts";

/** Some output of the guest, in the order it arrived. */
export interface OutputChunk {
  readonly stream: "stdout" | "stderr";
  readonly data: Uint8Array;
}

/** A terminal or program in the guest, over a WebSocket. */
export interface GuestSession {
  /** Everything it writes; ends with it. Read it to the end, or the program is held back once the window is full. */
  readonly output: AsyncIterable<OutputChunk>;
  /** Its exit code (of a console: 0 when the server ended it). Rejects with an ApiError when it could not run, with an UnreachableError when the connection broke. */
  readonly exit: Promise<number>;
  /** Sends standard input; resolves when there is room for more. */
  write(data: Uint8Array | string): Promise<void>;
  /** Ends standard input. */
  endInput(): void;
  resize(size: { readonly cols: number; readonly rows: number }): void;
  signal(name: ExecSignal): void;
  /** Leaves; the program is killed. */
  close(): void;
}

/** How much either side may send ahead of the other. */
const windowBytes = 1024 * 1024;
const largestFrame = 64 * 1024;

/** What is needed of a WebSocket: the part that browsers and Node 24 have in common. */
type Socket = InstanceType<typeof WebSocket>;

/**
 * Opens an exec (with a request) or console (without) session over a socket that is being opened. A WebSocket does not tell why it could not be;
 * `explain` finds out.
 */
export function guestSession(
  socket: Socket,
  request: ExecRequestInput | null,
  where: string,
  explain: () => Promise<Error>,
  signal?: AbortSignal,
): GuestSession {
  socket.binaryType = "arraybuffer";
  const output = new ChunkQueue((bytes) => request && control({ ack: bytes }));
  /** Bytes of input the server has room for. A console takes what a person types, and has no window. */
  const window = request?.windowBytes ?? windowBytes;
  let credit = request ? window : Number.POSITIVE_INFINITY;
  /** What is sent goes in the order it was asked for, each after the one before. */
  let sending: Promise<void> = Promise.resolve();
  let wakeWriter = () => {};
  let isOpen = false;
  const exit = Promise.withResolvers<number>();
  const opened = Promise.withResolvers<void>();
  // Both are also for those who never look at them.
  exit.promise.catch(() => {});
  opened.promise.catch(() => {});

  const finish = (result: { code: number } | { error: Error }) => {
    if ("code" in result) exit.resolve(result.code);
    else exit.reject(result.error);
    if ("error" in result) opened.reject(result.error);
    output.end();
    wakeWriter();
    signal?.removeEventListener("abort", close);
  };
  const control = (message: ClientControl) =>
    send(execFrames.control, new TextEncoder().encode(JSON.stringify(message)));
  const send = (stream: number, data: Uint8Array) => {
    if (socket.readyState !== socket.OPEN) return;
    const frame = new Uint8Array(data.length + 1);
    frame[0] = stream;
    frame.set(data, 1);
    socket.send(frame);
  };
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const mine = sending.then(() => opened.promise).then(work);
    sending = mine.catch(() => {});
    return mine;
  };
  const close = () => {
    socket.close(1000);
    finish({ error: new UnreachableError(where, "the session was closed here") });
  };

  socket.addEventListener("open", () => {
    isOpen = true;
    if (request) socket.send(JSON.stringify({ ...request, windowBytes: window }));
    opened.resolve();
  });
  socket.addEventListener("message", (event: { data: unknown }) => {
    if (!(event.data instanceof ArrayBuffer)) return;
    const frame = new Uint8Array(event.data);
    const data = frame.subarray(1);
    if (frame[0] === execFrames.stdout) output.push({ stream: "stdout", data });
    if (frame[0] === execFrames.stderr) output.push({ stream: "stderr", data });
    if (frame[0] === execFrames.control) {
      const message = readControl(data);
      if (!message) finish({ error: new UnreachableError(where, "it says something that this version does not know") });
      else if ("exit" in message) finish({ code: message.exit.code });
      else if ("error" in message) finish({ error: new ApiError(message.error) });
      else {
        credit += message.ack;
        wakeWriter();
      }
    }
  });
  socket.addEventListener("error", () => {
    if (isOpen) finish({ error: new UnreachableError(where, "the connection was cut") });
    else void explain().then((error) => finish({ error }));
  });
  socket.addEventListener("close", (event: { code: number; reason: string }) => {
    if (!isOpen) return;
    // Nothing changes when the end has been told already.
    if (event.code === 1000 && !request) finish({ code: 0 });
    else finish({ error: new UnreachableError(where, event.reason || `the WebSocket was closed (${event.code})`) });
  });
  if (signal?.aborted) close();
  else signal?.addEventListener("abort", close, { once: true });

  return {
    output,
    exit: exit.promise,
    write(data) {
      const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
      return inTurn(async () => {
        for (let at = 0; at < bytes.length; at += largestFrame) {
          const part = bytes.subarray(at, at + largestFrame);
          while (credit < part.length && socket.readyState === socket.OPEN) {
            await new Promise<void>((resolve) => {
              wakeWriter = resolve;
            });
          }
          credit -= part.length;
          send(execFrames.stdin, part);
        }
      });
    },
    endInput: () => ignoreClosed(inTurn(async () => send(execFrames.stdin, new Uint8Array()))),
    // These overtake input that waits for room: a signal must reach a program that reads nothing.
    resize: (size) =>
      ignoreClosed(opened.promise.then(() => control({ resize: { cols: size.cols, rows: size.rows } }))),
    signal: (name) => ignoreClosed(opened.promise.then(() => control({ signal: name }))),
    close,
  };
}

/** What the server says; undefined when it cannot be understood. */
function readControl(data: Uint8Array): ServerControl | undefined {
  try {
    return ServerControl.parse(JSON.parse(new TextDecoder().decode(data)));
  } catch {
    return undefined;
  }
}

/** For what has nowhere to go once the session is over; `exit` tells why it is. */
function ignoreClosed(work: Promise<void>): void {
  work.catch(() => {});
}

/** Chunks that wait for their reader; tells how many bytes it has taken. */
class ChunkQueue implements AsyncIterable<OutputChunk> {
  readonly #chunks: OutputChunk[] = [];
  readonly #taken: (bytes: number) => void;
  #ended = false;
  #wake: () => void = () => {};

  constructor(taken: (bytes: number) => void) {
    this.#taken = taken;
  }

  push(chunk: OutputChunk): void {
    if (this.#ended || chunk.data.length === 0) return;
    this.#chunks.push(chunk);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<OutputChunk, void> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk) {
        yield chunk;
        this.#taken(chunk.data.length);
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
