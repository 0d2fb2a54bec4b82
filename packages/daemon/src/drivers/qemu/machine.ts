import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { BerthError } from "@berth/api";
import { z } from "zod";
import type { HostUser, PortForward } from "../../core/descriptions.ts";
import type { DetachOptions, Host, Pipe, ProcessIdentity } from "../../host/host.ts";
import type { CreateInputs, OwnerMark } from "../driver.ts";
import { memoryUnusable } from "../memory-image.ts";
import type { Accelerator } from "./accelerator.ts";
import { commandLine, diskNode, type Marked, markOf, readMark, stateUri } from "./command-line.ts";
import { tellSizes } from "./disks.ts";
import { type MachinePaths, MachineRecord, RunRecord } from "./handle.ts";
import { keepLogs, type LogBounds, readLines } from "./log.ts";
import { Qmp, QmpError } from "./qmp.ts";
import { answering, untilMigration } from "./sibling.ts";

/** How much is kept of what a guest writes, per stream; 10 MiB of console in all. */
const logBounds: Readonly<Record<"console" | "control" | "machine", LogBounds>> = {
  console: { files: 4, bytes: 2 * 1024 * 1024 },
  control: { files: 1, bytes: 256 * 1024 },
  machine: { files: 1, bytes: 256 * 1024 },
};

/** How long QEMU may take from its start until it answers; to end once told to, with those who write its last words; and once killed. Ample: a busy node is slow. */
const startTimeoutMs = 30_000;
const quitTimeoutMs = 10_000;
/** How long those who write its last words may take for them; longer when the disk is full, and then they are given up. */
const writtenTimeoutMs = 5_000;
const killTimeoutMs = 30_000;
const answerTimeoutMs = 3_000;
/** How long one whose memory was being saved may take to run on. */
const goOnTimeoutMs = 30_000;
const lookEveryMs = 5;

/** A process that carries a mark of Berth's. */
export interface FoundProcess extends Marked {
  readonly process: ProcessIdentity;
}

/** All hypervisors, and launchers about to become one, that carry a mark. What somebody else started under our mark has another user and does not count. */
export async function findMarked(host: Host, isOurs: (uid: number) => boolean): Promise<readonly FoundProcess[]> {
  const found: FoundProcess[] = [];
  for (const { identity, uid, args } of await host.processes((args) => readMark(args) !== undefined)) {
    const marked = readMark(args);
    if (marked && isOurs(uid)) found.push({ ...marked, process: identity });
  }
  return found;
}

/** How a machine is started. */
export interface StartOptions {
  readonly qemu: string;
  readonly accelerator: Accelerator;
  readonly paused?: boolean;
  /** Opens the memory it goes on from: its descriptors are closed when they were handed over. */
  readonly memory?: (inputs: CreateInputs) => Promise<OpenMemory>;
  readonly signal: AbortSignal;
}

/** A checked memory image, as descriptors. */
export interface OpenMemory {
  readonly ramFd: number;
  readonly stateFd: number;
}

/** What one run of QEMU says of itself. */
export interface MachineState {
  readonly power: "running" | "paused";
  readonly reason: string;
}

/** One machine of this driver on its node: its files and its processes. */
export class Machine {
  readonly owner: OwnerMark;
  readonly paths: MachinePaths;
  readonly #host: Host;
  readonly #isOurs: (uid: number) => boolean;

  constructor(options: {
    readonly host: Host;
    readonly owner: OwnerMark;
    readonly paths: MachinePaths;
    /** Whether a process of this uid may be this daemon's. */
    readonly isOurs: (uid: number) => boolean;
  }) {
    this.owner = options.owner;
    this.paths = options.paths;
    this.#host = options.host;
    this.#isOurs = options.isOurs;
  }

  /** What it is made of; undefined when it was never made, or the folder holds another's. */
  async record(): Promise<MachineRecord | undefined> {
    const text = await this.#host.files.readText(this.paths.machineRecord);
    if (text === undefined) return undefined;
    const record = MachineRecord.parse(JSON.parse(text));
    return markOf(record.inputs.owner) === markOf(this.owner) ? record : undefined;
  }

  async run(): Promise<RunRecord | undefined> {
    const text = await this.#host.files.readText(this.paths.runRecord);
    // It is not synced: a node that lost its power may have an empty one, and nothing of that run either.
    return text ? RunRecord.parse(JSON.parse(text)) : undefined;
  }

  /** Writes down what it is made of, at first or anew, with its folders; its record comes last, so that it exists wholly or not at all. */
  async create(inputs: CreateInputs): Promise<void> {
    const { files } = this.#host;
    await files.makeDirectory(this.paths.folder, { mode: inputs.user ? 0o711 : 0o700 });
    await files.makeDirectory(this.paths.vm, { mode: 0o700, ...inputs.user });
    for (const name of ["log", ...Object.values(this.paths.logs)]) {
      await files.makeDirectory(`${this.paths.vm}/${name}`, { mode: 0o700, ...inputs.user });
    }
    const record: MachineRecord = { version: 1, inputs: structuredClone(inputs) as MachineRecord["inputs"] };
    await files.writeAtomic(this.paths.machineRecord, JSON.stringify(record));
  }

  /** Its QEMU, while it runs; found by its mark when a crash came between its start and its being written down. */
  async hypervisor(): Promise<ProcessIdentity | undefined> {
    const run = await this.run();
    // A run is written down before anything of it is started.
    if (!run) return undefined;
    if (run.hypervisor) return (await this.#host.isAlive(run.hypervisor)) ? run.hypervisor : undefined;
    const facts = await this.#host.facts();
    if (run.bootId !== facts.bootId) return undefined;
    return (await this.marked()).find(({ isHypervisor, isSibling }) => isHypervisor && !isSibling)?.process;
  }

  /** Resolves when it is off and all it had to say is written down; at once when it does not run. */
  async waitForEnd(signal: AbortSignal): Promise<void> {
    const hypervisor = await this.hypervisor();
    const helpers = (await this.run())?.helpers ?? [];
    for (const process of hypervisor ? [hypervisor, ...helpers] : helpers)
      await this.#host.waitForExit(process, signal);
  }

  /** Once its QEMU has ended, waits until all that it had to say is written down; at once while it runs. */
  async untilWrittenDown(): Promise<void> {
    if (await this.hypervisor()) return;
    const limit = AbortSignal.timeout(writtenTimeoutMs);
    await this.waitForEnd(limit).catch((error: unknown) => {
      if (!limit.aborted) throw error;
    });
  }

  /** The processes that carry its mark. */
  async marked(): Promise<readonly FoundProcess[]> {
    const found = await findMarked(this.#host, this.#isOurs);
    return found.filter(({ owner }) => markOf(owner) === markOf(this.owner));
  }

  /** Starts QEMU; resolves when it answers and what it goes on from is in place, rejects with its own words, and then nothing of it is left. */
  async start(options: StartOptions): Promise<void> {
    const record = await this.record();
    if (!record) throw new BerthError("not_found", `The machine of ${this.owner.instanceId} does not exist.`);
    const { inputs } = record;
    const startedAt = Date.now();
    await this.#removeSockets();
    for (const nic of inputs.nics) for (const forward of nic.forwards) await this.#requirePort(forward);
    try {
      const signal = AbortSignal.any([options.signal, AbortSignal.timeout(startTimeoutMs)]);
      const qmp = await this.#launch(inputs, { ...options, signal });
      try {
        if (options.memory) await this.#load(qmp, startedAt, signal);
        if (options.memory && !options.paused) await goOn(qmp, inputs.disks);
      } finally {
        qmp.close();
      }
    } catch (error) {
      await this.powerOff();
      options.signal.throwIfAborted();
      throw await this.#startError(inputs, error, startedAt);
    }
  }

  /** What its QEMU says; only for one that runs. `isSaving`: that it stands still for a moment is no news. */
  async state(isSaving: boolean): Promise<MachineState> {
    try {
      const status = await this.status();
      const isStill = !(isSaving && (status === "finish-migrate" || status === "postmigrate"));
      if (status === "running" || !isStill) return { power: "running", reason: "" };
      return { power: "paused", reason: `QEMU says it is ${status}` };
    } catch (error) {
      return { power: "running", reason: `QEMU does not answer: ${(error as Error).message}` };
    }
  }

  /** QEMU's own word for what it is doing (qapi/run-state.json, RunState). */
  async status(): Promise<string> {
    return this.converse(async (qmp) => statusOf(qmp));
  }

  /** Has one that stands still run: paused since its start or since its memory was read, or left so by a daemon that was killed while it saved. Resolves when it runs. */
  async goOn(): Promise<void> {
    const disks = (await this.record())?.inputs.disks ?? [];
    await this.converse((qmp) => goOn(qmp, disks), goOnTimeoutMs);
  }

  /** A conversation with one of its QEMU's monitors; whoever opens it closes it. */
  connect(monitor: "qmp" | "work", signal: AbortSignal): Promise<Qmp> {
    return Qmp.connect(this.#host, this.paths.sockets[monitor], signal);
  }

  /** A short conversation with its QEMU. */
  async converse<T>(talk: (qmp: Qmp) => Promise<T>, timeoutMs = answerTimeoutMs): Promise<T> {
    const signal = AbortSignal.timeout(timeoutMs);
    const qmp = await this.connect("qmp", signal);
    const onAbort = () => qmp.close();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await talk(qmp);
    } finally {
      signal.removeEventListener("abort", onAbort);
      qmp.close();
    }
  }

  /** Runs one command of QEMU's machine protocol. */
  command(name: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    return this.converse((qmp) => qmp.execute(name, args));
  }

  /** Ends the sibling that a save left, and removes what it had. */
  async endSibling(): Promise<void> {
    const { files } = this.#host;
    const { siblingLog, siblingSockets, stateSocket } = this.paths;
    if (!(await files.exists(siblingLog))) return;
    for (const { isSibling, process } of await this.marked()) if (isSibling) await this.#kill(process);
    for (const path of [...Object.values(siblingSockets), stateSocket, siblingLog]) await files.remove(path);
  }

  /** Ends its QEMU and everything that belongs to the run; resolves when all of it is gone. */
  async powerOff(): Promise<void> {
    await this.endSibling();
    const run = await this.run();
    // A crash may have come between a launcher's start and its being written down, or QEMU's own.
    const unwritten = run?.hypervisor ? [] : await this.marked();
    const hypervisor = run?.hypervisor
      ? await this.hypervisor()
      : unwritten.find(({ isHypervisor, isSibling }) => isHypervisor && !isSibling)?.process;
    if (hypervisor) {
      const listens = await this.command("quit").then(
        () => true,
        () => false,
      );
      if (!listens || !(await this.#hasEnded(hypervisor))) await this.#kill(hypervisor);
    }
    // They end by themselves once QEMU is gone and what it wrote is on disk.
    for (const helper of run?.helpers ?? []) await this.#endHelper(helper);
    for (const { process } of unwritten) await this.#kill(process);
    await this.#removeSockets();
    await this.#host.files.remove(this.paths.runRecord);
  }

  /** Removes all that `create` and its runs made, and the folders when nothing of anybody else is in them. */
  async destroy(): Promise<void> {
    await this.powerOff();
    const { files } = this.#host;
    await files.remove(`${this.paths.vm}/log`);
    await files.remove(this.paths.machineRecord);
    for (const folder of [this.paths.vm, this.paths.folder]) {
      if ((await files.list(folder)).length === 0) await files.remove(folder);
    }
  }

  /** The last own words of the QEMU started then, without what the guest's firmware wrote to the same log. */
  async lastWords(startedAt: number): Promise<string> {
    const lines = await readLines(this.#host, this.paths.vm, this.paths.logs.machine);
    const words = lines.filter(({ at }) => Date.parse(at) >= startedAt).map(({ text }) => ownWords.exec(text)?.[0]);
    return words
      .filter((word) => word !== undefined)
      .slice(-3)
      .map(printable)
      .join(" | ");
  }

  /** Starts the processes of a run; resolves with a conversation with QEMU as soon as it answers. */
  async #launch(inputs: CreateInputs, options: StartOptions): Promise<Qmp> {
    const { qemu, accelerator, signal } = options;
    const { bootId } = await this.#host.facts();
    let run: RunRecord = { version: 1, startedAt: Date.now(), bootId, hypervisor: null, helpers: [] };
    const note = (change: Partial<RunRecord>) => {
      run = { ...run, ...change };
      return this.#host.files.writeAtomic(this.paths.runRecord, JSON.stringify(run), { passing: true });
    };
    await note({});
    await this.#forgetControl(inputs);
    const nodes = await this.#nodes(inputs);
    const own = commandLine(inputs, {
      sockets: this.paths.sockets,
      accelerator: accelerator.kind,
      generation: randomBytes(10).toString("hex"),
      nodes,
      fromMemory: options.memory !== undefined,
      paused: options.paused ?? false,
    });
    const user = inputs.user && { uid: inputs.user.uid, gid: accelerator.gid ?? inputs.user.gid };
    const becomesUser = user && publishesLowPort(inputs) ? asUserWithLowPorts(user) : undefined;
    const [program = qemu, ...args] = [...(becomesUser ?? inputs.launcher), qemu, ...own];
    const streams = await this.#openStreams(inputs, options, (keeper) => note({ helpers: [keeper] }));
    const started = await this.#host.detach(program, args, {
      cwd: this.paths.vm,
      ...streams,
      ...(becomesUser ? {} : user),
    });
    if (inputs.launcher.length === 0) await note({ hypervisor: started });
    else await note({ helpers: [started, ...run.helpers] });
    const qmp = await answering(this.#host, { path: this.paths.sockets.qmp, process: started, signal });
    try {
      if (!run.hypervisor) await note({ hypervisor: (await this.hypervisor()) ?? null });
      return qmp;
    } catch (error) {
      qmp.close();
      throw error;
    }
  }

  /** Reads the devices' state into a QEMU that waits for it; it stays paused, as it was when that was saved. */
  async #load(qmp: Qmp, startedAt: number, signal: AbortSignal): Promise<void> {
    try {
      const capabilities = ["events", "x-ignore-shared"].map((capability) => ({ capability, state: true }));
      await qmp.execute("migrate-set-capabilities", { capabilities });
      await qmp.execute("migrate-incoming", { uri: stateUri });
      await untilMigration(qmp, "completed", signal);
    } catch (error) {
      signal.throwIfAborted();
      // It ends when it cannot read it; its words are there once its log is.
      qmp.close();
      await this.powerOff();
      throw memoryUnusable(`QEMU says ${(await this.lastWords(startedAt)) || (error as Error).message}`);
    }
  }

  /** What the disks' nodes are called in this run. */
  async #nodes({ disks }: CreateInputs): Promise<readonly string[]> {
    const identities = await Promise.all(disks.map(({ path }) => this.#host.files.identity(path)));
    return identities.map((identity, index) => diskNode(index, identity ?? "missing"));
  }

  /** What an earlier run's guest said of itself, its exit code above all, is not true of this one. Its console is kept: people read on in it. */
  async #forgetControl({ user }: CreateInputs): Promise<void> {
    const folder = `${this.paths.vm}/${this.paths.logs.control}`;
    await this.#host.files.remove(folder);
    await this.#host.files.makeDirectory(folder, { mode: 0o700, ...user });
  }

  /**
   * The descriptors that QEMU is handed, as `command-line.ts` counts them: what it writes, and the memory it goes on from. `note` is told who writes the logs. When any of it fails,
   * all are closed again, and who would have written the logs has ended.
   */
  async #openStreams(
    inputs: CreateInputs,
    options: StartOptions,
    note: (keeper: ProcessIdentity) => Promise<void>,
  ): Promise<Required<Pick<DetachOptions, "outputFd" | "fds">>> {
    const opened: number[] = [];
    let keeper: ProcessIdentity | undefined;
    try {
      const memory = await options.memory?.(inputs);
      const memoryFds = memory ? [memory.ramFd, memory.stateFd] : [];
      opened.push(...memoryFds);
      const [console, control, machine] = await this.#host.pipes(3);
      if (!console || !control || !machine) throw new Error("The host made no pipes");
      const logFds = [console.writeFd, control.writeFd, machine.writeFd];
      opened.push(...logFds);
      keeper = await this.#keepLogs({ console, control, machine }, inputs.user);
      await note(keeper);
      return { outputFd: machine.writeFd, fds: [...logFds, ...memoryFds] };
    } catch (error) {
      for (const fd of opened) await this.#host.files.closeDescriptor(fd);
      if (keeper) await this.#endHelper(keeper);
      throw error;
    }
  }

  #keepLogs(pipes: Readonly<Record<keyof typeof logBounds, Pipe>>, user: HostUser | null): Promise<ProcessIdentity> {
    const log = (name: keyof typeof logBounds) => ({
      folder: `${this.paths.vm}/${this.paths.logs[name]}`,
      readFd: pipes[name].readFd,
      bounds: logBounds[name],
    });
    return keepLogs(this.#host, [log("console"), log("control"), log("machine")], user);
  }

  /** Waits for the end of a process that is about to end; false when it does not. */
  async #hasEnded(process: ProcessIdentity): Promise<boolean> {
    return this.#host.waitForExit(process, AbortSignal.timeout(quitTimeoutMs)).then(
      () => true,
      () => false,
    );
  }

  /** Ends one that ends by itself, and kills it with all that it started when it does not. */
  async #endHelper(helper: ProcessIdentity): Promise<void> {
    if (await this.#hasEnded(helper)) return;
    await this.#host.signalGroup(helper, "SIGKILL");
    await this.#host.waitForExit(helper, AbortSignal.timeout(killTimeoutMs));
  }

  async #kill(process: ProcessIdentity): Promise<void> {
    await this.#host.signal(process, "SIGKILL");
    await this.#host.waitForExit(process, AbortSignal.timeout(killTimeoutMs));
  }

  async #requirePort({ protocol, hostAddress, hostPort }: PortForward): Promise<void> {
    try {
      if ((await this.#host.tryPort(protocol, hostAddress, hostPort)) === undefined)
        throw portTaken(hostAddress, hostPort);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EACCES") throw cause;
      const detail = `berthd's user may not publish port ${hostPort}: below 1024 it must run as root, or net.ipv4.ip_unprivileged_port_start be lowered.`;
      throw new BerthError("invalid_request", detail, { cause });
    }
  }

  async #startError(inputs: CreateInputs, error: unknown, startedAt: number): Promise<Error> {
    if (error instanceof BerthError) return error;
    const words = await this.lastWords(startedAt);
    if (/Could not set up host forwarding rule|Failed to bind/.test(words)) {
      const [forward] = inputs.nics.flatMap((nic) => nic.forwards);
      if (forward) return portTaken(forward.hostAddress, forward.hostPort);
    }
    if (/cannot set up guest memory|Cannot allocate memory/.test(words))
      return new BerthError("not_enough_resources", words);
    return new BerthError("host_program_failed", `QEMU did not start: ${words || (error as Error).message}`, {
      cause: error,
    });
  }

  async #removeSockets(): Promise<void> {
    for (const path of Object.values(this.paths.sockets)) await this.#host.files.remove(path);
  }
}

/** How QEMU and the programs of a launcher begin what they complain about. */
const ownWords = /\b(?:qemu(?:-system-\w+)?|pasta|nft|setpriv|unshare|mount|if): .*|Failed to bind .*/;

function portTaken(address: string, port: number): BerthError {
  return new BerthError("port_taken", `Port ${port} on ${address} is in use on this node.`);
}

/** Has a QEMU that stands still run; resolves when it does. */
async function goOn(qmp: Qmp, disks: CreateInputs["disks"]): Promise<void> {
  const deadline = Date.now() + goOnTimeoutMs;
  for (let status = await statusOf(qmp); status !== "running"; status = await statusOf(qmp)) {
    if (Date.now() > deadline) throw new Error(`QEMU does not go on: it is ${status}`);
    if (status === "finish-migrate") await qmp.execute("migrate_cancel");
    else if (await letGoOn(qmp, disks, status)) return;
    await delay(lookEveryMs);
  }
}

/** Whether it runs now. A migration that has just ended is not quite over for a moment; whatever else is wrong shows in the status. */
async function letGoOn(qmp: Qmp, disks: CreateInputs["disks"], status: string): Promise<boolean> {
  if (status === "paused") await tellSizes(qmp, disks);
  try {
    await qmp.execute("cont");
    return true;
  } catch (error) {
    if (error instanceof QmpError) return false;
    throw error;
  }
}

async function statusOf(qmp: Qmp): Promise<string> {
  return RunState.parse(await qmp.execute("query-status")).status;
}

/** The part of `query-status` that is used. */
const RunState = z.looseObject({ status: z.string() });

/** Without control characters: QEMU may repeat what the guest told it. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e\u00a0-\uffff]/g, "?").slice(0, 500);
}

/** Ports below this take a capability to bind (Linux: net.ipv4.ip_unprivileged_port_start). */
const firstFreePort = 1024;

function publishesLowPort(inputs: CreateInputs): boolean {
  return inputs.nics.some((nic) => nic.forwards.some(({ hostPort }) => hostPort < firstFreePort));
}

/** What a hypervisor that publishes a low port is started by: as root, to become the guest's user with that one capability and no other. */
function asUserWithLowPorts({ uid, gid }: HostUser): string[] {
  const only = "-all,+net_bind_service";
  return [
    ...["setpriv", "--reuid", String(uid), "--regid", String(gid), "--clear-groups"],
    ...[`--inh-caps=${only}`, `--ambient-caps=${only}`, `--bounding-set=${only}`, "--"],
  ];
}
