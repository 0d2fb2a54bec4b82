import { randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import type { Duplex, Readable } from "node:stream";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BerthError, type ExecRequest } from "@berth/api";
import ssh2, { type PseudoTtyOptions } from "ssh2";
import { abortable } from "./abortable.ts";
import { ExecSession } from "./exec-session.ts";
import type { InstanceKeys } from "./keys.ts";
import { SessionGate } from "./session-gate.ts";

/** How long the guest may take to answer the call and to finish the key exchange, in milliseconds: emulated guests are slow. */
const connectLimitMs = 30_000;
/** The longest request that fits an SSH command of dropbear (MAX_CMD_LEN 9000), and the longest the guest takes at all. */
const commandLimit = 8000;
const requestLimit = 256 * 1024;
/** The exit code of the guest's helper for a path that is not there. */
const notFound = 44;
/** How much of a failing tar's words is kept. */
const wordsLimit = 4096;
/** How long the guest may take to confirm a request, in milliseconds. */
const requestLimitMs = 30_000;
/** After so many openings in a row those who are about to end have their turn. */
const openingsInARow = 16;

/** SSH into one guest over its channel port; one connection serves many sessions. It owns the stream. */
export class GuestChannel {
  readonly #client: ssh2.Client;
  /** Resolves when the connection is gone, for whatever reason. */
  readonly closed: Promise<void>;
  /** Aborted when the connection is gone. */
  readonly #lost: AbortSignal;
  #gate: SessionGate | undefined;
  #lastOpening: Promise<unknown> = Promise.resolve();
  #openings = 0;
  #inARow = 0;
  #sessions = 0;

  private constructor(client: ssh2.Client) {
    this.#client = client;
    const gone = new AbortController();
    this.#lost = gone.signal;
    this.closed = new Promise((resolve) =>
      client.once("close", () => {
        gone.abort(new Error("the connection closed"));
        resolve();
      }),
    );
  }

  /** Connects; the guest must have the pinned host key. Throws BerthError `guest_unreachable`; the stream is destroyed then. */
  static async connect(stream: Duplex, keys: InstanceKeys, signal: AbortSignal): Promise<GuestChannel> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(connectLimitMs)]);
    try {
      await callGuest(stream, limit);
      const channel = new GuestChannel(await openSsh(stream, keys, limit));
      channel.#gate = new SessionGate(await abortable(channel.#request(JSON.stringify({ action: "gate" })), limit));
      channel.#settleGate();
      return channel;
    } catch (error) {
      stream.destroy();
      if (signal.aborted) throw signal.reason;
      throw new BerthError("guest_unreachable", "The guest's channel does not answer.", { cause: error });
    }
  }

  /** Runs a program in the guest. It ends with its session. Throws BerthError `guest_unreachable`, or `invalid_request` for one that is too long. */
  async exec(request: ExecRequest, signal: AbortSignal): Promise<ExecSession> {
    const { command, env, user, workingDir, tty, cols, rows, stdin } = request;
    return this.#run(
      {
        action: "exec",
        input: stdin || tty,
        argv: command,
        env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
        tty,
        ...(user === undefined ? {} : { user }),
        ...(workingDir === undefined ? {} : { workingDir }),
      },
      signal,
      tty ? { term: env.TERM ?? "xterm-256color", cols, rows, width: 0, height: 0 } : undefined,
    );
  }

  /**
   * A tar archive of one file or folder of the guest, its last name as the only entry at the top. Resolves once the guest has found the path;
   * throws BerthError `path_not_found` when there is none. Destroying the stream ends the guest's tar.
   */
  async readTar(path: string, signal: AbortSignal): Promise<Readable> {
    const session = await this.#run({ action: "readTar", path }, signal);
    session.stdin.end();
    const words = collectWords(session.stderr);
    const archive = new PassThrough();
    const finish = async () => {
      await pipeline(session.stdout, archive, { signal, end: false });
      checkTar(await session.exit, await words, path);
      archive.end();
    };
    const fail = (error: unknown) => archive.destroy(error instanceof Error ? error : new Error(String(error)));
    archive.once("close", () => session.close());
    void finish().catch(fail);
    // An archive is never empty: its first bytes, or the error, tell whether the path was found.
    await once(archive, "readable", { signal });
    return archive;
  }

  /** Unpacks a tar archive into a folder of the guest. Throws BerthError `path_not_found` when there is no such folder. */
  async writeTar(path: string, tar: Readable, signal: AbortSignal): Promise<void> {
    const session = await this.#run({ action: "writeTar", path }, signal);
    const words = collectWords(session.stderr);
    session.stdout.resume();
    const sent = pipeline(tar, session.stdin, { signal }).then(
      () => undefined,
      (error: unknown) => error,
    );
    try {
      // The guest's own words say more than the broken pipe that they cause.
      const failure = await Promise.race([sent, session.exit.then(() => undefined)]);
      if (failure) throw failure;
      checkTar(await session.exit, await words, path);
    } finally {
      tar.destroy();
      session.close();
    }
  }

  close(): void {
    this.#client.end();
    this.#client.destroy();
  }

  /** Opens a session for one request. A long request goes ahead in a session of its own. */
  async #run(request: object, signal: AbortSignal, terminal?: PseudoTtyOptions): Promise<ExecSession> {
    signal.throwIfAborted();
    const text = JSON.stringify(request);
    const bytes = Buffer.byteLength(text);
    if (bytes <= commandLimit) return this.#open(text, signal, terminal);
    if (bytes > requestLimit) {
      throw new BerthError(
        "invalid_request",
        `Command and environment together are longer than ${requestLimit / 1024} KiB.`,
      );
    }
    const id = randomBytes(16).toString("hex");
    const staging = await this.#open(JSON.stringify({ action: "stage", id }), signal);
    staging.stdin.end(text);
    staging.stdout.resume();
    staging.stderr?.resume();
    const { code } = await staging.exit;
    if (code !== 0) throw new BerthError("guest_unreachable", "The guest did not take the request.");
    return this.#open(JSON.stringify({ action: "staged", id }), signal, terminal);
  }

  /**
   * Opens one session at a time, and none ends meanwhile. One whose caller has left is opened all the same and then ended: the next must not begin before the guest
   * has looked at its request.
   */
  async #open(command: string, signal: AbortSignal, terminal?: PseudoTtyOptions): Promise<ExecSession> {
    this.#openings += 1;
    const opened = this.#lastOpening.then(async () => {
      signal.throwIfAborted();
      await this.#inTime(this.#gate?.close() ?? Promise.resolve());
      const session = await this.#request(command, terminal);
      this.#sessions += 1;
      void session.closed.then(() => {
        this.#sessions -= 1;
        this.#settleGate();
      });
      return session;
    });
    const done = () => this.#afterOpening();
    this.#lastOpening = opened.then(done, done);
    try {
      return await abortable(opened, signal);
    } catch (error) {
      opened.then((session) => session.close()).catch(() => {});
      throw error;
    }
  }

  #afterOpening(): void {
    this.#openings -= 1;
    this.#inARow = this.#openings > 0 ? (this.#inARow + 1) % openingsInARow : 0;
    if (this.#openings > 0 && this.#inARow === 0) this.#gate?.open();
    this.#settleGate();
  }

  /** Sessions may end while none is being opened. When there are none, the gate is closed already for the next. */
  #settleGate(): void {
    if (this.#openings > 0) return;
    if (this.#sessions > 0) this.#gate?.open();
    else void this.#gate?.close();
  }

  /** One session's request. */
  #request(command: string, terminal?: PseudoTtyOptions): Promise<ExecSession> {
    const tty = terminal !== undefined;
    return this.#inTime(
      new Promise((resolve, reject) => {
        this.#client.exec(command, terminal ? { pty: terminal } : {}, (error, channel) => {
          if (error) reject(error);
          else resolve(new ExecSession(channel, { tty, lost: this.#lost }));
        });
      }),
    );
  }

  /** What the guest does not do in time it will not do any more: the connection is given up, and the next request opens another. */
  async #inTime<T>(work: Promise<T>): Promise<T> {
    const timer = setTimeout(() => this.close(), requestLimitMs);
    try {
      return await abortable(work, this.#lost);
    } catch (error) {
      throw error instanceof BerthError ? error : lost(error);
    } finally {
      clearTimeout(timer);
    }
  }
}

function lost(cause: unknown): BerthError {
  return new BerthError("guest_unreachable", "The guest's channel is gone.", { cause });
}

/**
 * Begins a conversation on a port that may still hold parts of an earlier one: calls with a number of our own and drops everything up to the
 * guest's echo of it.
 */
async function callGuest(stream: Duplex, signal: AbortSignal): Promise<void> {
  const call = Buffer.from(`BERTH-CHANNEL:${randomBytes(16).toString("hex")}\n`);
  stream.write(Buffer.concat([Buffer.from("\n"), call]));
  let seen: Buffer = Buffer.alloc(0);
  for (;;) {
    const chunk: Buffer | null = stream.read();
    if (chunk === null) {
      if (stream.readableEnded || stream.destroyed) throw new Error("the port closed");
      await once(stream, "readable", { signal });
      continue;
    }
    seen = Buffer.concat([seen, chunk]);
    const at = seen.indexOf(call);
    if (at >= 0) {
      const rest = seen.subarray(at + call.length);
      if (rest.length > 0) stream.unshift(rest);
      return;
    }
    seen = seen.subarray(Math.max(0, seen.length - call.length));
  }
}

async function openSsh(stream: Duplex, keys: InstanceKeys, signal: AbortSignal): Promise<ssh2.Client> {
  const client = new ssh2.Client();
  // A guest that goes away at the wrong moment must not take the daemon with it: an error nobody listens for ends the process.
  client.on("error", () => {});
  const pinned = Buffer.from(keys.hostPublicKey, "base64");
  const ready = once(client, "ready", { signal });
  // Ends the wait when the server goes away without a word.
  const closed = once(client, "close", { signal }).then(() => {
    throw new Error("the connection closed");
  });
  try {
    client.connect({
      sock: stream,
      username: "root",
      privateKey: keys.clientKey,
      hostVerifier: (key: Buffer) => key.length === pinned.length && timingSafeEqual(key, pinned),
      readyTimeout: 0,
      keepaliveInterval: 0,
      algorithms: {
        kex: ["curve25519-sha256"],
        serverHostKey: ["ssh-ed25519"],
        cipher: ["chacha20-poly1305@openssh.com"],
        compress: ["none"],
      },
    });
    await Promise.race([ready, closed]);
    return client;
  } catch (error) {
    client.destroy();
    throw error;
  } finally {
    ready.catch(() => {});
    closed.catch(() => {});
  }
}

/** The first words on a stream; those after them are read and dropped. */
async function collectWords(stream: Readable | null): Promise<string> {
  let words = "";
  for await (const chunk of stream ?? []) if (words.length < wordsLimit) words += chunk;
  return words.slice(0, wordsLimit).trim();
}

function checkTar({ code }: { code: number }, words: string, path: string): void {
  if (code === 0) return;
  if (code === notFound) throw new BerthError("path_not_found", `The guest has no ${path}.`);
  throw new BerthError("invalid_request", `The guest's tar failed at ${path}: ${words || `exit code ${code}`}`);
}
