import { randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import type { Duplex, Readable } from "node:stream";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BerthError, type ExecRequest } from "@berth/api";
import ssh2, { type PseudoTtyOptions } from "ssh2";
import { ExecSession } from "./exec-session.ts";
import type { InstanceKeys } from "./keys.ts";

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
/** How often a request is made that the guest closes unconfirmed. */
const requestAttempts = 50;

/** SSH into one guest over its channel port; one connection serves many sessions. It owns the stream. */
export class GuestChannel {
  readonly #client: ssh2.Client;
  /** Resolves when the connection is gone, for whatever reason. */
  readonly closed: Promise<void>;
  #lastOpening: Promise<unknown> = Promise.resolve();

  private constructor(client: ssh2.Client) {
    this.#client = client;
    this.closed = new Promise((resolve) => client.once("close", () => resolve()));
  }

  /** Connects; the guest must have the pinned host key. Throws BerthError `guest_unreachable`; the stream is destroyed then. */
  static async connect(stream: Duplex, keys: InstanceKeys, signal: AbortSignal): Promise<GuestChannel> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(connectLimitMs)]);
    try {
      await callGuest(stream, limit);
      return new GuestChannel(await openSsh(stream, keys, limit));
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
   * throws BerthError `not_found` when there is none. Destroying the stream ends the guest's tar.
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

  /** Unpacks a tar archive into a folder of the guest. Throws BerthError `not_found` when there is no such folder. */
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
   * Opens one session at a time, so that others' ends come between as little as can be: dropbear closes a session whose request it has not
   * looked at yet when any other session's program ends. Such a request was never confirmed and never ran, so it is made again.
   */
  #open(command: string, signal: AbortSignal, terminal?: PseudoTtyOptions): Promise<ExecSession> {
    const opened = this.#lastOpening.then(async () => {
      for (let attempt = 1; ; attempt++) {
        signal.throwIfAborted();
        const session = await this.#request(command, signal, terminal);
        if (session) return session;
        if (attempt === requestAttempts) throw lost(new Error("the guest closed every session before it ran"));
      }
    });
    this.#lastOpening = opened.catch(() => {});
    return opened;
  }

  /** One session's request; undefined when the guest closed it unconfirmed. */
  #request(command: string, signal: AbortSignal, terminal?: PseudoTtyOptions): Promise<ExecSession | undefined> {
    return new Promise((resolve, reject) => {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(requestLimitMs)]);
      const fail = (cause?: unknown) => reject(signal.aborted ? signal.reason : lost(cause));
      limit.addEventListener("abort", () => fail(new Error("no answer to the request")), { once: true });
      void this.closed.then(fail);
      try {
        this.#client.exec(command, terminal ? { pty: terminal } : {}, (error, channel) => {
          // ssh2's words for a request that was refused or whose session was closed without an answer.
          if (error?.message === "Unable to exec") resolve(undefined);
          else if (error) fail(error);
          else if (limit.aborted) channel.close();
          else resolve(new ExecSession(channel, { tty: terminal !== undefined, lost: this.closed }));
        });
      } catch (error) {
        fail(error);
      }
    });
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
  if (code === notFound) throw new BerthError("not_found", `The guest has no ${path}.`);
  throw new BerthError("invalid_request", `The guest's tar failed at ${path}: ${words || `exit code ${code}`}`);
}
