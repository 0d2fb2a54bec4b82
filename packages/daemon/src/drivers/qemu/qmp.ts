import type { Duplex } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { z } from "zod";
import type { Host } from "../../host/host.ts";

/** What QEMU answers when it refuses a command. */
class QmpError extends Error {
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
});

const maxLineLength = 1024 * 1024;

type OnEvent = (event: string, data: Readonly<Record<string, unknown>>) => void;

/** A conversation with one QEMU over its control socket, which takes one client at a time: close it soon. */
export class Qmp {
  readonly #stream: Duplex;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #greeted = Promise.withResolvers<void>();
  readonly #onEvent: OnEvent;
  readonly #decoder = new StringDecoder("utf8");
  #rest = "";
  #lastId = 0;
  #closed: Error | undefined;

  private constructor(stream: Duplex, onEvent: OnEvent) {
    this.#stream = stream;
    this.#onEvent = onEvent;
    this.#greeted.promise.catch(() => {});
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    stream.on("error", (error) => this.#end(error));
    for (const event of ["end", "close"])
      stream.on(event, () => this.#end(new Error("QEMU closed its control socket")));
  }

  /** Connects, waits for the greeting and leaves negotiation mode. */
  static async connect(host: Host, path: string, signal: AbortSignal, onEvent: OnEvent = () => {}): Promise<Qmp> {
    const qmp = new Qmp(await host.connect(path, signal), onEvent);
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
    else if (message.event !== undefined) this.#onEvent(message.event, message.data ?? {});
    else this.#answer(message);
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
    this.#stream.destroy();
  }
}
