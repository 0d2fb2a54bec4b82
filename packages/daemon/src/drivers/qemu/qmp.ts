import type { Duplex } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { z } from "zod";
import type { Host } from "../../host/host.ts";

/** What QEMU answers when it refuses a command. */
export class QmpError extends Error {
  readonly kind: string;

  constructor(kind: string, description: string) {
    super(description);
    this.name = "QmpError";
    this.kind = kind;
  }
}

/** One message of QEMU's machine protocol (docs/interop/qmp-spec.txt): a greeting, an answer, a refusal, or an event. */
const Message = z.looseObject({
  QMP: z.unknown().optional(),
  id: z.number().optional(),
  return: z.unknown().optional(),
  error: z.object({ class: z.string(), desc: z.string() }).optional(),
  event: z.string().optional(),
  data: z.record(z.string(), z.unknown()).optional(),
  timestamp: z.object({ seconds: z.number(), microseconds: z.number() }).optional(),
});

/** Something QEMU told of by itself. */
export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** When it came to pass by QEMU's own clock: milliseconds since the epoch, with fractions. */
  readonly atMs: number;
}

const maxLineLength = 1024 * 1024;

/** How many events of a conversation are kept for who asks later. */
const maxEvents = 256;

/** A conversation with one QEMU over its control socket, which takes one client at a time: close it soon. */
export class Qmp {
  readonly #stream: Duplex;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #greeted = Promise.withResolvers<void>();
  readonly #watching = new Set<() => void>();
  readonly #events: QmpEvent[] = [];
  readonly #decoder = new StringDecoder("utf8");
  #rest = "";
  #lastId = 0;
  #closed: Error | undefined;

  private constructor(stream: Duplex) {
    this.#stream = stream;
    this.#greeted.promise.catch(() => {});
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    stream.on("error", (error) => this.#end(error));
    for (const event of ["end", "close"])
      stream.on(event, () => this.#end(new Error("QEMU closed its control socket")));
  }

  /** Connects, waits for the greeting and leaves negotiation mode. */
  static async connect(host: Host, path: string, signal: AbortSignal): Promise<Qmp> {
    const qmp = new Qmp(await host.connect(path, signal));
    const onAbort = () => qmp.#end(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await qmp.#greeted.promise;
      await qmp.execute("qmp_capabilities");
      return qmp;
    } catch (error) {
      qmp.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Runs a command; rejects with a QmpError when QEMU refuses it, and with another error when the conversation ends first. */
  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#closed) return Promise.reject(this.#closed);
    this.#lastId += 1;
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.set(this.#lastId, answer);
    this.#stream.write(
      `${JSON.stringify({ execute: command, ...(args ? { arguments: args } : {}), id: this.#lastId })}\n`,
    );
    return answer.promise;
  }

  /** Events of that name since the conversation began, the last ones. */
  events(name: string): readonly QmpEvent[] {
    return this.#events.filter((event) => event.name === name);
  }

  /** Resolves with what `look` finds, now or after any further event; rejects when the conversation ends first, or is aborted. */
  async until<T>(look: () => T | undefined, signal: AbortSignal): Promise<T> {
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      signal.throwIfAborted();
      if (this.#closed) throw this.#closed;
      const news = Promise.withResolvers<void>();
      this.#watching.add(news.resolve);
      signal.addEventListener("abort", () => news.resolve(), { once: true });
      await news.promise;
      this.#watching.delete(news.resolve);
    }
  }

  close(): void {
    this.#end(new Error("The conversation with QEMU was ended"));
  }

  #take(chunk: Buffer): void {
    const lines = (this.#rest + this.#decoder.write(chunk)).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) if (line.trim()) this.#read(line);
    if (this.#rest.length > maxLineLength) this.#end(new Error("QEMU sent a line without end"));
  }

  #read(line: string): void {
    let message: z.infer<typeof Message>;
    try {
      message = Message.parse(JSON.parse(line));
    } catch (cause) {
      this.#end(new Error("QEMU sent something that is not its protocol", { cause }));
      return;
    }
    if (message.QMP !== undefined) this.#greeted.resolve();
    else if (message.event !== undefined) this.#note(message.event, message);
    else this.#answer(message);
  }

  #note(name: string, { data = {}, timestamp }: z.infer<typeof Message>): void {
    const atMs = timestamp ? timestamp.seconds * 1000 + timestamp.microseconds / 1000 : Number.NaN;
    this.#events.push({ name, data, atMs });
    if (this.#events.length > maxEvents) this.#events.shift();
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#watching) wake();
  }

  #answer(message: z.infer<typeof Message>): void {
    const answer = this.#waiting.get(message.id ?? 0);
    this.#waiting.delete(message.id ?? 0);
    if (message.error) answer?.reject(new QmpError(message.error.class, message.error.desc));
    else answer?.resolve(message.return);
  }

  #end(reason: Error): void {
    if (this.#closed) return;
    this.#closed = reason;
    this.#greeted.reject(reason);
    for (const answer of this.#waiting.values()) answer.reject(reason);
    this.#waiting.clear();
    this.#wake();
    this.#stream.destroy();
  }
}

/** Whether a socket could not be connected to only because nobody listens yet. */
export function isNotYet(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ECONNREFUSED";
}
