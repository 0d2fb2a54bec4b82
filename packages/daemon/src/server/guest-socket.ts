import { type Duplex, PassThrough, type Readable, type Writable } from "node:stream";
import { BerthError, ClientControl, ExecRequest, execFrames, type ServerControl, toProblem } from "@berth/api";
import type { RawData, WebSocket } from "ws";
import type { Attach } from "./call.ts";
import type { ExecSession } from "./services.ts";

/** The largest message a client may send. */
export const maxMessageBytes = 1024 * 1024;
/** How long after connecting the exec request may take. */
const requestTimeoutMs = 10_000;
/** How much input may wait for the guest before the connection is no longer read. */
const inputHighWater = 256 * 1024;
const largestFrame = 64 * 1024;

/** WebSocket close codes (RFC 6455, section 7.4.1). */
const closeCodes = { normal: 1000, policy: 1008 } as const;

/** Serves an exec connection: reads the request, runs the program, and carries its streams until it ends or the client leaves, which kills it. */
export function execSession(start: (request: ExecRequest, signal: AbortSignal) => Promise<ExecSession>): Attach {
  return async (socket, signal) => {
    const wire = new Wire(socket);
    let session: ExecSession | undefined;
    try {
      const request = await wire.request();
      wire.limitTo(request.windowBytes);
      session = await start(request, signal);
      signal.throwIfAborted();
      const { stdin, stdout, stderr } = session;
      const onAbort = () => session?.close();
      signal.addEventListener("abort", onAbort, { once: true });
      wire.onControl(session);
      if (request.stdin) wire.feed(stdin);
      else stdin.end();
      const [, , { code }] = await Promise.all([
        wire.pump(stdout, execFrames.stdout),
        stderr ? wire.pump(stderr, execFrames.stderr) : undefined,
        session.exit,
      ]);
      // One that was ended here did not end by itself.
      signal.throwIfAborted();
      await wire.say({ exit: { code } });
    } catch (error) {
      await wire.say({ error: toProblem(signal.aborted ? signal.reason : error) });
      if (!signal.aborted && !(error instanceof BerthError)) throw error;
    } finally {
      session?.close();
      socket.close(closeCodes.normal);
    }
  };
}

/** Serves a console connection: bytes both ways until either side ends it. */
export function consoleSession(attach: (signal: AbortSignal) => Promise<Duplex>): Attach {
  return async (socket, signal) => {
    const wire = new Wire(socket);
    let stream: Duplex | undefined;
    try {
      stream = await attach(signal);
      signal.throwIfAborted();
      const attached = stream;
      signal.addEventListener("abort", () => attached.destroy(), { once: true });
      wire.onControl({ resize() {}, signal() {} });
      wire.feed(stream);
      await wire.pump(stream, execFrames.stdout);
    } catch (error) {
      await wire.say({ error: toProblem(signal.aborted ? signal.reason : error) });
      if (!signal.aborted && !(error instanceof BerthError)) throw error;
    } finally {
      stream?.destroy();
      socket.close(closeCodes.normal);
    }
  };
}

/** One connection to a client: frames in and out, never more of them waiting in memory than the bounds above. */
class Wire {
  readonly #socket: WebSocket;
  /** Input that came before there was a program to take it, and what it has not taken yet. */
  readonly #input = new PassThrough({ highWaterMark: largestFrame });
  #inputWaiting = 0;
  readonly #request = Promise.withResolvers<ExecRequest>();
  #requested = false;
  readonly #controls: ((target: Pick<ExecSession, "resize" | "signal">) => void)[] = [];
  #target: Pick<ExecSession, "resize" | "signal"> | undefined;
  /** Bytes of output the client still has room for, when it set a window. */
  #credit = Number.POSITIVE_INFINITY;
  #window: number | undefined;
  #waiting: (() => void)[] = [];

  constructor(socket: WebSocket) {
    this.#socket = socket;
    this.#request.promise.catch(() => {});
    const timer = setTimeout(() => this.#fail("no request came"), requestTimeoutMs);
    this.#request.promise.finally(() => clearTimeout(timer)).catch(() => {});
    socket.on("message", (data, isBinary) => this.#receive(data, isBinary));
    socket.on("close", () => {
      this.#request.reject(new BerthError("cancelled", "The client left."));
      this.#input.destroy();
      this.#wakeOutput();
    });
    this.#input.on("error", () => {});
  }

  /** The exec request, which is the first message. */
  request(): Promise<ExecRequest> {
    return this.#request.promise;
  }

  /** Holds output back once so much of it is not acknowledged, and acknowledges input in turn. */
  limitTo(windowBytes: number | undefined): void {
    if (windowBytes === undefined) return;
    this.#window = windowBytes;
    this.#credit = windowBytes;
  }

  /** Who hears of resizes and signals, those that came before included. */
  onControl(target: Pick<ExecSession, "resize" | "signal">): void {
    this.#target = target;
    for (const control of this.#controls.splice(0)) control(target);
  }

  /** Gives the input to the guest. What comes after the guest has closed its side is dropped, as a closed pipe does. */
  feed(target: Writable): void {
    const drop = () => {
      this.#input.unpipe(target);
      this.#input.resume();
    };
    target.on("error", drop);
    target.on("close", drop);
    this.#input.pipe(target);
  }

  /** Sends all of a stream as frames. Resolves at its end, or early when the client has left. */
  async pump(stream: Readable, frame: number): Promise<void> {
    for await (const chunk of stream as AsyncIterable<Buffer | string>) {
      const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
      for (let at = 0; at < bytes.length; at += largestFrame) {
        const part = bytes.subarray(at, at + largestFrame);
        while (this.#credit < part.length && this.#isOpen()) {
          await new Promise<void>((resolve) => this.#waiting.push(resolve));
        }
        if (!this.#isOpen()) return;
        this.#credit -= part.length;
        await this.#send(frame, part);
      }
    }
  }

  /** Sends a word on the control stream. */
  say(message: ServerControl): Promise<void> {
    return this.#send(execFrames.control, Buffer.from(JSON.stringify(message)));
  }

  #wakeOutput(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  /** Resolves when the frame has left this process: so a client that does not read holds the guest's output back. */
  #send(frame: number, data: Uint8Array): Promise<void> {
    if (!this.#isOpen()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#socket.send(Buffer.concat([Buffer.of(frame), data]), () => resolve());
    });
  }

  #receive(data: RawData, isBinary: boolean): void {
    const bytes = data as Buffer;
    try {
      if (!isBinary) this.#takeRequest(bytes);
      else if (bytes[0] === execFrames.stdin) this.#takeInput(bytes.subarray(1));
      else if (bytes[0] === execFrames.control) this.#takeControl(bytes.subarray(1));
      else throw new BerthError("invalid_request", "A frame begins with 0 for input or 3 for control.");
    } catch (error) {
      this.#fail(error instanceof BerthError ? error.message : "the message is not valid");
    }
  }

  #takeRequest(bytes: Buffer): void {
    if (this.#requested) throw new BerthError("invalid_request", "Only the first message may be text.");
    this.#requested = true;
    let json: unknown;
    try {
      json = JSON.parse(bytes.toString("utf8"));
    } catch {
      this.#request.reject(new BerthError("invalid_request", "The request is not JSON."));
      return;
    }
    const request = ExecRequest.safeParse(json);
    if (request.success) this.#request.resolve(request.data);
    else {
      const errors = request.error.issues.map((issue) => ({
        path: ["body", ...issue.path].join("."),
        message: issue.message,
      }));
      const [first] = errors;
      this.#request.reject(new BerthError("invalid_request", `${first?.path}: ${first?.message}`, { errors }));
    }
  }

  #takeInput(bytes: Buffer): void {
    if (this.#input.writableEnded || this.#input.destroyed) return;
    if (bytes.length === 0) {
      this.#input.end();
      return;
    }
    this.#inputWaiting += bytes.length;
    if (this.#window === undefined && this.#inputWaiting > inputHighWater) this.#socket.pause();
    // With a window the connection is never paused: acknowledgements would be stuck behind the input they let through.
    if (this.#window !== undefined && this.#inputWaiting > this.#window + maxMessageBytes) {
      throw new BerthError("invalid_request", "More input than the window allows.");
    }
    this.#input.write(bytes, () => {
      this.#inputWaiting -= bytes.length;
      if (this.#window !== undefined) void this.say({ ack: bytes.length });
      else if (this.#inputWaiting <= inputHighWater) this.#socket.resume();
    });
  }

  #takeControl(bytes: Buffer): void {
    const control = ClientControl.parse(JSON.parse(bytes.toString("utf8")));
    if ("ack" in control) {
      this.#credit = Math.min(this.#credit + control.ack, this.#window ?? Number.POSITIVE_INFINITY);
      this.#wakeOutput();
      return;
    }
    const apply = (target: Pick<ExecSession, "resize" | "signal">) =>
      "resize" in control ? target.resize(control.resize.cols, control.resize.rows) : target.signal(control.signal);
    if (this.#target) apply(this.#target);
    else if (this.#controls.length < 100) this.#controls.push(apply);
  }

  #fail(reason: string): void {
    this.#request.reject(new BerthError("invalid_request", reason));
    this.#socket.close(closeCodes.policy, reason.slice(0, 100));
  }
}
