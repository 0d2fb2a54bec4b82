import { once } from "node:events";
import type { ExecRequestInput, GuestSession } from "@berth/api";
import type { Context } from "./command.ts";
import { exitCodes } from "./errors.ts";
import type { Surroundings } from "./surroundings.ts";
import { TerminalFilter } from "./text.ts";

/** The size of the terminal, as an exec request takes it. */
function sizeOf({ stdout }: Surroundings): { cols: number; rows: number } {
  const bounded = (size: number | undefined, other: number) => Math.min(1000, Math.max(1, size || other));
  return { cols: bounded(stdout.columns, 80), rows: bounded(stdout.rows, 24) };
}

/** What goes wrong on Berth's side of an exec ends with 125, so that it is told apart from the program's own codes. */
async function exitOf(session: GuestSession): Promise<number> {
  try {
    return await session.exit;
  } catch (error) {
    throw Object.assign(error as Error, { exitCode: exitCodes.berth });
  }
}

/** Runs a program in a guest, joined to our own streams, and answers its exit code. With --json its output is collected and printed at the end. */
export async function runInGuest(context: Context, instance: string, request: ExecRequestInput): Promise<number> {
  const { outside } = context;
  const client = await context.client();
  const tty = request.tty ?? false;
  const term = tty && outside.env.TERM ? { TERM: outside.env.TERM } : {};
  const session = client.exec(instance, {
    ...request,
    ...(tty ? sizeOf(outside) : {}),
    env: { ...term, ...request.env },
  });
  if (context.json) {
    const collected = await collect(session);
    context.print(collected, () => "");
    return collected.exitCode;
  }
  const release = tty ? holdTerminal(outside, session) : () => {};
  const stopListening = tty ? () => {} : outside.onInterrupt(() => session.signal("INT"));
  const stopSending = request.stdin ? sendInput(outside, session) : () => {};
  try {
    await showOutput(outside, session, tty);
    return await exitOf(session);
  } finally {
    stopSending();
    stopListening();
    release();
    session.close();
  }
}

const leaveKey = 0x1d;

/** Attaches to the console until it ends or Ctrl-] is typed. */
export async function attachConsole(context: Context, instance: string): Promise<void> {
  const { outside } = context;
  const client = await context.client();
  const session = client.console(instance);
  let left = false;
  const leave = () => {
    left = true;
    session.close();
  };
  const release = outside.stdin.isTTY ? holdTerminal(outside, session) : () => {};
  const stopListening = outside.onInterrupt(leave);
  const stopSending = sendInput(outside, session, outside.stdin.isTTY ? leave : undefined);
  try {
    await showOutput(outside, session, Boolean(outside.stdin.isTTY));
    await session.exit.catch((error) => {
      if (!left) throw error;
    });
  } finally {
    stopSending();
    stopListening();
    release();
    session.close();
  }
}

/** Runs a program in a guest and answers what it said. */
export async function askGuest(context: Context, instance: string, command: readonly string[]): Promise<Collected> {
  const client = await context.client();
  return collect(client.exec(instance, { command: [...command] }));
}

interface Collected {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function collect(session: GuestSession): Promise<Collected> {
  const chunks: Record<"stdout" | "stderr", Uint8Array[]> = { stdout: [], stderr: [] };
  const text = (stream: "stdout" | "stderr") => Buffer.concat(chunks[stream]).toString("utf8");
  try {
    for await (const { stream, data } of session.output) chunks[stream].push(data);
    return { exitCode: await exitOf(session), stdout: text("stdout"), stderr: text("stderr") };
  } finally {
    session.close();
  }
}

/** Writes what the guest writes, as fast as it is taken. Only a terminal of its own may say what it likes to our terminal. */
async function showOutput(outside: Surroundings, session: GuestSession, raw: boolean): Promise<void> {
  const filters = { stdout: new TerminalFilter(), stderr: new TerminalFilter() };
  for await (const { stream, data } of session.output) {
    const target = outside[stream];
    if (!target.write(raw || !target.isTTY ? data : filters[stream].push(data))) await once(target, "drain");
  }
  if (!raw)
    for (const stream of ["stdout", "stderr"] as const)
      if (outside[stream].isTTY) outside[stream].write(filters[stream].end());
}

/** Puts the terminal into raw mode, in which every key goes to the guest, and tells the guest its size; returns how to undo that. */
function holdTerminal(outside: Surroundings, session: GuestSession): () => void {
  const resize = () => session.resize(sizeOf(outside));
  outside.stdin.setRawMode?.(true);
  outside.stdout.on("resize", resize);
  return () => {
    outside.stdout.off("resize", resize);
    outside.stdin.setRawMode?.(false);
  };
}

/** Sends standard input on, holding it back while the guest is slow. With `leave`, Ctrl-] is not sent but calls it. */
function sendInput({ stdin }: Surroundings, session: GuestSession, leave?: () => void): () => void {
  const send = (chunk: Buffer | string) => {
    const data = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    const at = leave ? data.indexOf(leaveKey) : -1;
    stdin.pause();
    session.write(at < 0 ? data : data.subarray(0, at)).then(
      () => (at < 0 ? stdin.resume() : leave?.()),
      () => {},
    );
  };
  const end = () => session.endInput();
  stdin.on("data", send);
  stdin.once("end", end);
  return () => {
    stdin.off("data", send);
    stdin.off("end", end);
    stdin.pause();
  };
}
