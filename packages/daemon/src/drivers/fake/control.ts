import type { Duplex } from "node:stream";
import {
  type Fact,
  factsOf,
  firstWords,
  type GuestConfig,
  goOn,
  helloOf,
  isDeaf,
  isHeld,
  isSilent,
  type MachineRecord,
  type Run,
  runState,
} from "./machine.ts";
import type { World } from "./world.ts";

const maxLineBytes = 256 * 1024;

/**
 * Serves the guest's side of a control port: JSON lines, the host's commands one way and the guest's facts the other (docs/guest-protocol.md).
 * Returns what to call when the machine has changed otherwise.
 */
export function serveControl(world: World, id: string, stream: Duplex, changed: () => void): () => void {
  /** What was said on this connection, or had come to pass before it: `hello` tells of that. */
  let told: Set<string> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let rest = "";
  /** What came while the machine was paused: its guest reads it when it goes on. */
  const unread: string[] = [];
  let queue: Promise<unknown> = Promise.resolve();

  const say = (line: Fact["line"]) => void stream.write(`\n${JSON.stringify(line)}\n`);
  const inTurn = (work: () => Promise<void>) => {
    queue = queue.then(work).catch((error) => stream.destroy(error as Error));
  };

  /** Says what has come to pass since the last look, and comes back for the next fact. */
  const look = async () => {
    clearTimeout(timer);
    const record = await world.read(id);
    if (stream.destroyed) return;
    if (!record) return void stream.end();
    const now = Date.now();
    const facts = factsOf(record);
    const news = facts.filter((fact) => fact.at <= now).map(({ line }) => ({ line, key: keyOf(record, line) }));
    if (told && !isSilent(record)) for (const { line, key } of news) if (!told.has(key)) say(line);
    told = new Set([...(told ?? []), ...news.map(({ key }) => key)]);
    const power = runState(record, now)?.power ?? "stopped";
    if (power === "stopped") return void stream.end();
    if (power === "running") for (const text of unread.splice(0)) inTurn(() => obey(text));
    const next = facts.find((fact) => fact.at > now)?.at;
    if (next !== undefined) timer = setTimeout(() => inTurn(look), Math.min(next - now, 2 ** 31 - 1));
  };

  const obey = async (text: string) => {
    const command = parse(text);
    if (!command) return;
    const record = await world.read(id);
    if (!record || isSilent(record)) return;
    if (record.run?.paused) return void unread.push(text);
    if (command.command === "hello") say(helloOf(record, Date.now()));
    if (command.command === "hold") await hold();
    if (command.command === "release") await release();
    if (command.command === "identify") await identify(command);
    if (command.command === "freeze") say({ fact: "frozen", uptimeMs: 0 });
    if (command.command === "thaw") say({ fact: "thawed", uptimeMs: 0, by: "host" });
    if (command.command === "hold") say({ fact: "held", uptimeMs: 0, generation: "" });
    if (command.command === "release") say({ fact: "released", uptimeMs: 0, by: "host" });
    if (command.command === "stop" && !isDeaf(record)) await stop(command);
    if (command.command === "configure") await configure(record, command);
  };

  const configure = async (record: MachineRecord, command: Record<string, unknown>) => {
    if (record.run?.config) return;
    const config = readConfig(command);
    if (typeof config === "string") return say({ fact: "refused", uptimeMs: 0, reason: config });
    const next = await world.change(id, (current) =>
      current?.run && !current.run.config
        ? { ...current, run: { ...goOn(current.run, config.at), held: null, config } }
        : current,
    );
    if (next && factsOf(next).some((fact) => fact.line.fact === "started"))
      await world.appendLog(id, firstWords(config));
    changed();
  };

  const changeRun = (change: (run: Run) => Run) =>
    world.change(id, (current) => (current?.run ? { ...current, run: change(current.run) } : current));

  const hold = async () => {
    const at = Date.now();
    await changeRun((run) => (isHeld(run, at) ? run : { ...run, held: { at, generation: run.generation } }));
    say({ fact: "held", uptimeMs: 0 });
  };

  /** Only its own host's word that it is no copy lets it go: in another generation it waits to be told who it is. */
  const release = async () => {
    await changeRun((run) => (run.held?.generation === run.generation ? { ...run, held: null } : run));
    say({ fact: "released", uptimeMs: 0 });
  };

  const identify = async (command: Record<string, unknown>) => {
    const config = readConfig(command);
    if (typeof config === "string") return say({ fact: "refused", uptimeMs: 0, reason: config });
    const { hostKey, clientPublicKey, watchPorts } = config;
    await changeRun((run) => {
      const next = goOn(run, config.at);
      // Its programs run already: they keep what they were started with.
      const told: GuestConfig | null = next.config && { ...next.config, hostKey, clientPublicKey, watchPorts };
      return { ...next, held: null, config: told };
    });
    say({ fact: "identified", uptimeMs: 0 });
    changed();
  };

  const stop = async (command: Record<string, unknown>) => {
    const [signal, timeoutMs] = [Number(command.signal) || 15, Number(command.timeoutMs) || 0];
    const at = Date.now();
    await world.change(id, (current) =>
      current?.run && !current.run.stop
        ? { ...current, run: { ...current.run, stop: { at, signal, timeoutMs } } }
        : current,
    );
    changed();
  };

  stream.on("data", (chunk: Buffer) => {
    rest += chunk.toString("utf8");
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > maxLineBytes) {
      rest = "";
      say({ fact: "refused", uptimeMs: 0, reason: "a line is longer than 256 KiB" });
    }
    for (const line of lines) inTurn(() => obey(line));
  });
  stream.once("close", () => clearTimeout(timer));
  inTurn(look);
  return () => inTurn(look);
}

/** Names a fact: each comes to pass once in a run. Not by its time, which is before that of its being written down. */
function keyOf({ run }: MachineRecord, { fact, port }: Fact["line"]): string {
  return [run?.bootId, fact, port].join(" ");
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    // The rest of a line that a host who reconnects had cut off.
    return undefined;
  }
}

/** Reads a `configure`; the words of the refusal when something is missing. */
function readConfig(command: Record<string, unknown>) {
  const process = command.process as Record<string, unknown> | undefined;
  const channel = command.channel as Record<string, unknown> | undefined;
  if (!isTexts(process?.argv)) return "argv must be a list of strings";
  if (!isTexts(process?.env)) return "env must be a list of strings";
  if (typeof channel?.hostKey !== "string" || typeof channel.clientPublicKey !== "string") {
    return "hostname, channel.hostKey, channel.clientPublicKey and seed must be strings";
  }
  const watchPorts = Array.isArray(command.watchPorts) ? command.watchPorts.map(Number) : [];
  const { hostKey, clientPublicKey } = channel as { hostKey: string; clientPublicKey: string };
  return { at: Date.now(), argv: process.argv, env: process.env, watchPorts, hostKey, clientPublicKey };
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === "string");
}
