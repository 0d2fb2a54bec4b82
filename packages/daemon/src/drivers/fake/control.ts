import type { Duplex } from "node:stream";
import {
  type Fact,
  factsOf,
  firstWords,
  type GuestConfig,
  goOn,
  hasMoved,
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
const untold = "the guest must first be told who it is";

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
    if (command.command === "stop" && !isDeaf(record)) await stop(command);
    if (command.command === "grow") say({ fact: "grown", uptimeMs: 0 });
    if (command.command === "watch") await watch(command);
    if (command.command === "configure") await configure(record, command);
  };

  const configure = async (record: MachineRecord, command: Record<string, unknown>) => {
    if (record.run?.config) return;
    const config = readConfig(command);
    if (typeof config === "string") return refuse("configure", config);
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

  const refuse = (command: string, reason: string) => say({ fact: "refused", uptimeMs: 0, command, reason });

  /** Why the guest does not do as it is told; nothing when it does, and then its run is changed. */
  const obeyed = async (
    command: string,
    reasonAgainst: (run: Run, at: number) => string,
    change: (run: Run, at: number) => Run,
  ) => {
    const at = Date.now();
    let reason = "";
    const next = await changeRun((run) => {
      reason = reasonAgainst(run, at);
      return reason ? run : change(run, at);
    });
    if (reason) refuse(command, reason);
    return reason ? null : (next?.run ?? null);
  };

  const watch = async (command: Record<string, unknown>) => {
    const watchPorts = Array.isArray(command.watchPorts) ? command.watchPorts.map(Number) : [];
    const next = await changeRun((run) => ({ ...run, config: run.config && { ...run.config, watchPorts } }));
    const state = next && runState(next, Date.now());
    if (!state) return;
    const { ready, waitingFor: reason, listening } = state;
    say({ fact: "watching", uptimeMs: 0, ready, reason, listening });
    changed();
  };

  const hold = async () => {
    const against = (run: Run) => (hasMoved(run) ? untold : run.config ? "" : "the image's process does not run");
    const run = await obeyed("hold", against, (run, at) => ({ ...run, held: { at, generation: run.generation } }));
    if (run) say({ fact: "held", uptimeMs: 0, generation: run.generation });
    changed();
  };

  /** Only its own host's word that it is no copy lets it go: in another generation it waits to be told who it is. */
  const release = async () => {
    const against = (run: Run, at: number) => (hasMoved(run) ? untold : isHeld(run, at) ? "" : "nothing is held");
    const run = await obeyed("release", against, (run) => ({ ...run, held: null }));
    if (run) say({ fact: "released", uptimeMs: 0, by: "host" });
  };

  const identify = async (command: Record<string, unknown>) => {
    const config = readConfig(command);
    if (typeof config === "string") return refuse("identify", config);
    const { hostKey, clientPublicKey, watchPorts } = config;
    const against = (run: Run) => (hasMoved(run) ? "" : "the guest knows who it is");
    const run = await obeyed("identify", against, (run) => {
      const next = goOn(run, config.at);
      // Its programs run already: they keep what they were started with.
      const told: GuestConfig | null = next.config && { ...next.config, hostKey, clientPublicKey, watchPorts };
      return { ...next, held: null, config: told };
    });
    if (!run) return;
    say({ fact: "identified", uptimeMs: 0, hookCode: null });
    // What was seen in another machine is seen anew in this one.
    told = new Set([...(told ?? [])].filter((key) => !/ (listening|ready) /.test(key)));
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
function keyOf({ run }: MachineRecord, { fact, port, uptimeMs }: Fact["line"]): string {
  // It may hold and release itself many times.
  return [run?.bootId, fact, fact === "released" ? uptimeMs : port].join(" ");
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
