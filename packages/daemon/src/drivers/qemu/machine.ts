import { BerthError } from "@berth/api";
import type { HostUser, PortForward } from "../../core/descriptions.ts";
import type { Host, ProcessIdentity } from "../../host/host.ts";
import type { CreateInputs, OwnerMark } from "../driver.ts";
import { type AcceleratorKind, commandLine, type Marked, markOf, readMark } from "./command-line.ts";
import { type MachinePaths, MachineRecord, RunRecord } from "./handle.ts";
import { keepLog, type LogBounds, readLines } from "./log.ts";
import { Qmp } from "./qmp.ts";

/** How much is kept of what a guest writes, per stream; 10 MiB of console in all. */
const logBounds: Readonly<Record<"console" | "control" | "machine", LogBounds>> = {
  console: { files: 4, bytes: 2 * 1024 * 1024 },
  control: { files: 1, bytes: 256 * 1024 },
  machine: { files: 1, bytes: 256 * 1024 },
};

/** How long QEMU may take from its start until it answers; to end once told to, with those who write its last words; and once killed. Ample: a busy node is slow. */
const startTimeoutMs = 30_000;
const quitTimeoutMs = 10_000;
const killTimeoutMs = 30_000;
const answerTimeoutMs = 3_000;

/** A process that carries a mark of Berth's. */
export interface FoundProcess extends Marked {
  readonly process: ProcessIdentity;
}

/** All hypervisors, and launchers about to become one, that carry a mark. What somebody else started under our mark has another user and does not count. */
export async function findMarked(host: Host, isOurs: (uid: number) => boolean): Promise<readonly FoundProcess[]> {
  const found: FoundProcess[] = [];
  for (const { identity, uid, args } of await host.processes()) {
    const marked = readMark(args);
    if (marked && isOurs(uid)) found.push({ ...marked, process: identity });
  }
  return found;
}

/** How a machine is started. */
export interface StartOptions {
  readonly qemu: string;
  readonly accelerator: { readonly kind: AcceleratorKind; readonly gid: number | null };
  readonly signal: AbortSignal;
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
    return text === undefined ? undefined : RunRecord.parse(JSON.parse(text));
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
    if (run?.hypervisor && (await this.#host.isAlive(run.hypervisor))) return run.hypervisor;
    const facts = await this.#host.facts();
    if (run && (run.hypervisor || run.bootId !== facts.bootId)) return undefined;
    return (await this.marked()).find(({ isHypervisor }) => isHypervisor)?.process;
  }

  /** Resolves when it is off and all it had to say is written down; at once when it does not run. */
  async waitForEnd(signal: AbortSignal): Promise<void> {
    const hypervisor = await this.hypervisor();
    const helpers = (await this.run())?.helpers ?? [];
    for (const process of hypervisor ? [hypervisor, ...helpers] : helpers)
      await this.#host.waitForExit(process, signal);
  }

  /** The processes that carry its mark. */
  async marked(): Promise<readonly FoundProcess[]> {
    const found = await findMarked(this.#host, this.#isOurs);
    return found.filter(({ owner }) => markOf(owner) === markOf(this.owner));
  }

  /** Starts QEMU; resolves when it answers, rejects with its own words, and then nothing of it is left. */
  async start({ qemu, accelerator, signal }: StartOptions): Promise<void> {
    const record = await this.record();
    if (!record) throw new BerthError("not_found", `The machine of ${this.owner.instanceId} does not exist.`);
    const { inputs } = record;
    const startedAt = Date.now();
    await this.#removeSockets();
    for (const nic of inputs.nics) for (const forward of nic.forwards) await this.#requirePort(forward);
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(startTimeoutMs)]);
      await this.#launch(inputs, { qemu, accelerator, signal: limit });
    } catch (error) {
      await this.powerOff();
      signal.throwIfAborted();
      throw await this.#startError(inputs, error, startedAt);
    }
  }

  /** What its QEMU says; only for one that runs. */
  async state(): Promise<MachineState> {
    try {
      const status = (await this.command("query-status")) as { readonly status: string };
      if (status.status === "running") return { power: "running", reason: "" };
      return { power: "paused", reason: `QEMU says it is ${status.status}` };
    } catch (error) {
      return { power: "running", reason: `QEMU does not answer: ${(error as Error).message}` };
    }
  }

  /** Runs one command of QEMU's machine protocol. */
  async command(name: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    const signal = AbortSignal.timeout(answerTimeoutMs);
    const qmp = await Qmp.connect(this.#host, this.paths.sockets.qmp, signal);
    try {
      return await qmp.execute(name, args);
    } finally {
      qmp.close();
    }
  }

  /** Ends its QEMU and everything that belongs to the run; resolves when all of it is gone. */
  async powerOff(): Promise<void> {
    const run = await this.run();
    const hypervisor = await this.hypervisor();
    if (hypervisor) {
      const listens = await this.command("quit").then(
        () => true,
        () => false,
      );
      await (listens ? this.#end(hypervisor) : this.#kill(hypervisor));
    }
    // They end by themselves once QEMU is gone and what it wrote is on disk.
    for (const helper of run?.helpers ?? []) await this.#end(helper);
    // A crash may have come between a launcher's start and its being written down, or QEMU's own.
    if (!run?.hypervisor) for (const { process } of await this.marked()) await this.#kill(process);
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

  async #launch(inputs: CreateInputs, { qemu, accelerator, signal }: StartOptions): Promise<void> {
    const { bootId } = await this.#host.facts();
    let run: RunRecord = { version: 1, startedAt: Date.now(), bootId, hypervisor: null, helpers: [] };
    const note = (change: Partial<RunRecord>) => {
      run = { ...run, ...change };
      return this.#host.files.writeAtomic(this.paths.runRecord, JSON.stringify(run));
    };
    await note({});
    await this.#forgetControl(inputs);
    const console = await this.#log("console", inputs);
    const control = await this.#log("control", inputs);
    const machine = await this.#log("machine", inputs);
    await note({ helpers: [console.keeper, control.keeper, machine.keeper] });

    const own = commandLine(inputs, this.paths.sockets, accelerator.kind);
    const user = inputs.user && { uid: inputs.user.uid, gid: accelerator.gid ?? inputs.user.gid };
    const becomesUser = user && publishesLowPort(inputs) ? asUserWithLowPorts(user) : undefined;
    const [program = qemu, ...args] = [...(becomesUser ?? inputs.launcher), qemu, ...own];
    const started = await this.#host.detach(program, args, {
      cwd: this.paths.vm,
      outputFd: machine.writeFd,
      fds: [console.writeFd, control.writeFd, machine.writeFd],
      ...(becomesUser ? {} : user),
    });
    if (inputs.launcher.length === 0) await note({ hypervisor: started });
    else await note({ helpers: [started, ...run.helpers] });
    await this.#untilAnswers(started, signal);
    if (!run.hypervisor) await note({ hypervisor: (await this.hypervisor()) ?? null });
  }

  /** What an earlier run's guest said of itself, its exit code above all, is not true of this one. Its console is kept: people read on in it. */
  async #forgetControl({ user }: CreateInputs): Promise<void> {
    const folder = `${this.paths.vm}/${this.paths.logs.control}`;
    await this.#host.files.remove(folder);
    await this.#host.files.makeDirectory(folder, { mode: 0o700, ...user });
  }

  async #log(name: keyof typeof logBounds, inputs: CreateInputs) {
    const { readFd, writeFd } = await this.#host.pipe();
    const folder = `${this.paths.vm}/${this.paths.logs[name]}`;
    const keeper = await keepLog(this.#host, folder, { readFd, bounds: logBounds[name], user: inputs.user });
    return { keeper, writeFd };
  }

  /** Its socket appears a moment after the process: tried until it answers, or the process has ended. */
  async #untilAnswers(started: ProcessIdentity, signal: AbortSignal): Promise<void> {
    const stopWaiting = new AbortController();
    const ended = this.#host.waitForExit(started, AbortSignal.any([signal, stopWaiting.signal])).then(
      () => true,
      () => true,
    );
    try {
      for (;;) {
        try {
          const qmp = await Qmp.connect(this.#host, this.paths.sockets.qmp, signal);
          qmp.close();
          return;
        } catch (error) {
          signal.throwIfAborted();
          if (!isNotYet(error)) throw error;
        }
        const pause = Promise.withResolvers<boolean>();
        const timer = setTimeout(() => pause.resolve(false), 5);
        const over = await Promise.race([ended, pause.promise]);
        clearTimeout(timer);
        signal.throwIfAborted();
        if (over) throw new Error("it ended at once");
      }
    } finally {
      stopWaiting.abort();
    }
  }

  /** Waits for the end of a process that is about to end, and kills one that does not. */
  async #end(process: ProcessIdentity): Promise<void> {
    try {
      await this.#host.waitForExit(process, AbortSignal.timeout(quitTimeoutMs));
    } catch {
      await this.#kill(process);
    }
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

function isNotYet(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ECONNREFUSED";
}

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
