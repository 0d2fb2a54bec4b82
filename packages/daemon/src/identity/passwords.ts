import { type Argon2Parameters, argon2, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import { BerthError } from "@berth/api";

/** What OWASP asks of argon2id at least (Password Storage Cheat Sheet): 19 MiB, two passes, one lane. */
const cost = { memory: 19_456, passes: 2, parallelism: 1 } as const;
const tagLength = 32;

/** Each takes 19 MiB and a part of a CPU, and anybody may ask for one: so few at a time, and a queue with an end. */
const atOnce = 2;
const longestQueue = 64;
let running = 0;
const waiting: (() => void)[] = [];

async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (running >= atOnce) {
    if (waiting.length >= longestQueue) throw new BerthError("rate_limited", "Too many passwords are being checked.");
    await new Promise<void>((resolve) => waiting.push(resolve));
  } else running += 1;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    // Who waited takes over the place.
    if (next) next();
    else running -= 1;
  }
}

const derive = promisify<"argon2id", Argon2Parameters, Buffer>(argon2 as never);

/** What is kept of a password: argon2id in the form of PHC (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`). Rejects with `rate_limited` when too many wait. */
export async function hashPassword(password: string): Promise<string> {
  const nonce = randomBytes(16);
  const hash = await inTurn(() => derive("argon2id", { message: bytesOf(password), nonce, tagLength, ...cost }));
  return `$argon2id$v=19$m=${cost.memory},t=${cost.passes},p=${cost.parallelism}$${unpadded(nonce)}$${unpadded(hash)}`;
}

/** Whether a password is the one that was kept. Takes as long when nothing was, so that nobody learns who has one. Rejects with `rate_limited` when too many wait. */
export async function verifyPassword(password: string, kept: string | null): Promise<boolean> {
  const parsed = parse(kept ?? nobodys);
  const { nonce, hash, ...parameters } = parsed;
  const given = await inTurn(() =>
    derive("argon2id", { message: bytesOf(password), nonce, tagLength: hash.length, ...parameters }),
  );
  return timingSafeEqual(given, hash) && kept !== null;
}

const nobodys = `$argon2id$v=19$m=${cost.memory},t=${cost.passes},p=${cost.parallelism}$${unpadded(Buffer.alloc(16))}$${unpadded(Buffer.alloc(tagLength))}`;

function parse(kept: string) {
  const match = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/.exec(kept);
  if (!match) throw new Error("the store's user.password is not as this version writes it");
  const [, memory, passes, parallelism, nonce = "", hash = ""] = match;
  return {
    memory: Number(memory),
    passes: Number(passes),
    parallelism: Number(parallelism),
    nonce: Buffer.from(nonce, "base64"),
    hash: Buffer.from(hash, "base64"),
  };
}

/** The same letters are the same password however they were typed. */
function bytesOf(password: string): Buffer {
  return Buffer.from(password.normalize("NFKC"), "utf8");
}

function unpadded(bytes: Buffer): string {
  return bytes.toString("base64").replace(/=+$/, "");
}
