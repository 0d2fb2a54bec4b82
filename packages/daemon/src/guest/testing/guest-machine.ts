import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, symlink, truncate, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ExecRequest, type ExecRequestInput } from "@berth/api";
import { Qmp } from "../../drivers/qemu/qmp.ts";
import { localHost } from "../../host/local.ts";
import { type GuestConfig, type GuestProcess, machineIdOf } from "../config.ts";
import { GuestControl } from "../control.ts";
import { GuestHub, type SeenGuest } from "../hub.ts";
import { createKeys, type InstanceKeys } from "../keys.ts";
import { findKit } from "../kit/find-kit.ts";

const host = localHost();
/** Long enough for a busy machine. */
export const soon = () => AbortSignal.timeout(60_000);
const applets =
  "cat date df echo env false grep head httpd id ifconfig kill ln ls mkdir nc od ps pwd route sh sleep sort stat stty sync touch tty wc yes";
const memoryMib = 256;

/** What runs when a test says nothing else. */
const plainProcess: GuestProcess = {
  argv: [],
  env: ["PATH=/bin", "COLOUR=blue"],
  user: "",
  workingDir: "/",
  tty: false,
};

/** A root file system of busybox, in a raw ext4 much smaller than its disk of 1 GiB. */
export async function makeGuestDisk(folder: string): Promise<string> {
  const tree = join(folder, "tree");
  await mkdir(join(tree, "bin"), { recursive: true });
  await mkdir(join(tree, "etc"));
  const busybox = (await host.find("busybox")) ?? "";
  await writeFile(join(tree, "bin/busybox"), await readFile(busybox), { mode: 0o755 });
  for (const applet of applets.split(" ")) await symlink("busybox", join(tree, "bin", applet));
  await writeFile(join(tree, "etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n");
  await writeFile(join(tree, "etc/group"), "root:x:0:\napp:x:1000:\nextra:x:2000:app\n");
  await writeFile(join(tree, "etc/hosts"), "the image's own\n");
  await symlink("../run/resolver/resolv.conf", join(tree, "etc/resolv.conf"));
  await symlink("/etc", join(tree, "settings"));
  await writeFile(join(tree, "not-executable"), "");
  const disk = join(folder, "disk.img");
  await host.run("mke2fs", ["-q", "-t", "ext4", "-d", tree, disk, "16M"]);
  await truncate(disk, 1024 ** 3);
  return disk;
}

/** An empty qcow2 overlay over a raw disk, of the given size. */
export async function overlayOf(disk: string, path: string, sizeMib: number): Promise<string> {
  await host.run("qemu-img", ["create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", path, `${sizeMib}M`]);
  return path;
}

/** The memory of a machine as a file, and the state of its devices. */
export interface Memory {
  readonly ram: string;
  readonly state: string;
}

export interface BootOptions {
  readonly disk: string;
  readonly format?: "raw" | "qcow2";
  readonly process?: Partial<GuestProcess>;
  readonly watchPorts?: readonly number[];
  /** Only until its guest waits for its configuration, which it does not get. */
  readonly unconfigured?: boolean;
  /** Its memory is this file, shared, so that `saveMemory` can be called. */
  readonly ram?: string;
  /** It goes on from this memory, which it does not change. */
  readonly from?: Memory;
  /** The size of its disk when that is not what it was in the memory: the guest is told. */
  readonly sizeMib?: number;
}

/** One machine with the real kit, under bare QEMU; `id` is both its instance and what its addresses are made of. */
export class GuestMachine {
  readonly hub = new GuestHub();
  readonly keys: InstanceKeys = createKeys();
  readonly sockets: Socket[] = [];
  readonly id: string;
  /** What it is told beside what every guest is told; may be changed before it says hello. */
  overrides: Partial<GuestConfig> = {};
  readonly #folder: string;
  readonly #mac: string;
  #running: ReturnType<typeof host.start> | undefined;

  /** Its sockets and logs are kept in the folder. Number: from 1 to 99, another for each machine. */
  constructor(folder: string, number = 1) {
    this.#folder = folder;
    this.id = `i-${String(number).padStart(17, "0")}`;
    this.#mac = `52:54:00:00:00:${String(number).padStart(2, "0")}`;
  }

  /** Powers it on, and listens to it. */
  async boot({
    disk,
    format = "raw",
    process = {},
    watchPorts = [],
    unconfigured,
    ram,
    from,
    sizeMib,
  }: BootOptions): Promise<void> {
    const kit = await findKit(
      host,
      globalThis.process.env.BERTH_KIT_DIR ?? join(import.meta.dirname, "../../../../../.tools/kit"),
    );
    if (!kit) throw new Error("The guest kit is not built: run npm test, or node tools/build-kit.ts");
    const socket = (name: string) =>
      `socket,id=${name},path=${join(this.#folder, name)},server=on,wait=off,logfile=${join(this.#folder, name)}.log`;
    const { architecture } = await host.facts();
    const file = from?.ram ?? ram;
    const memory = `memory-backend-file,id=ram,size=${memoryMib}M,mem-path=${file},share=${from ? "off" : "on"}`;
    this.#running = host.start(
      architecture === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64",
      [
        ...["-M", `${architecture === "arm64" ? "virt" : "q35"}${file ? ",memory-backend=ram" : ""}`, "-accel", "tcg"],
        ...["-m", String(memoryMib), "-nodefaults", "-no-reboot", ...(file ? ["-object", memory] : [])],
        ...["-display", "none", "-kernel", kit.kernelPath, "-initrd", kit.initrdPath],
        ...["-append", "quiet loglevel=3 console=ttyS0 console=hvc0 panic=-1"],
        ...["-drive", `file=${disk},format=${format},if=none,id=disk0`],
        ...["-device", `virtio-blk-pci,id=vda,drive=disk0,serial=${randomBytes(8).toString("hex")}`],
        ...["-device", "virtio-serial-pci"],
        ...["-chardev", socket("console"), "-device", "virtconsole,chardev=console"],
        ...["-chardev", socket("control"), "-device", "virtconsole,chardev=control,name=berth.control"],
        ...["-chardev", socket("channel"), "-device", "virtserialport,chardev=channel,name=berth.channel"],
        ...["-netdev", "user,id=net,restrict=on", "-device", `virtio-net-pci,netdev=net,mac=${this.#mac},romfile=`],
        ...["-chardev", socket("qmp"), "-mon", "chardev=qmp,mode=control"],
        ...(from ? ["-incoming", "defer"] : []),
      ],
      { timeoutMs: 110_000 },
    );
    this.#running.done.catch(() => {});
    if (from) await this.#goOn(from.state, sizeMib);
    if (unconfigured) return this.#awaitPrepared();
    this.hub.attach(this.id, {
      openPort: (port) => this.open(port),
      keys: this.keys,
      config: () => this.#config({ ...plainProcess, ...process }, watchPorts),
    });
  }

  /** Resolves when its guest waits for its configuration; nobody listens to it before and after. */
  async #awaitPrepared(): Promise<void> {
    const signal = soon();
    let socket: Socket | undefined;
    while (!socket) {
      signal.throwIfAborted();
      socket = await this.open("control").catch(() => undefined);
    }
    const control = new GuestControl(socket);
    for await (const fact of control.facts())
      if (fact.fact === "prepared" || (fact.fact === "hello" && fact.phase === "prepared")) break;
    control.close();
  }

  #config(process: GuestProcess, watchPorts: readonly number[]): GuestConfig {
    return {
      hostname: "web",
      machineId: machineIdOf(this.id),
      process,
      watchPorts,
      interfaces: [{ mac: this.#mac, address: "10.0.2.15/24", gateway: "10.0.2.2", dns: ["10.0.2.3"] }],
      channel: { hostKey: this.keys.hostKey, clientPublicKey: this.keys.clientPublicKey },
      nowMs: Date.now(),
      seed: randomBytes(64).toString("base64"),
      ...this.overrides,
    };
  }

  /** Stops it and writes down the state of its devices; its memory is in the file it was booted with. */
  async saveMemory(state: string): Promise<void> {
    await this.qmp(async (qmp) => {
      await qmp.execute("stop");
      await ignoreShared(qmp);
      await qmp.execute("migrate", { uri: `exec:cat > ${state}` });
      await migrated(qmp);
    });
  }

  /** Goes on from the state that another machine's devices had. */
  async #goOn(state: string, sizeMib: number | undefined): Promise<void> {
    await this.qmp(async (qmp) => {
      await ignoreShared(qmp);
      await qmp.execute("migrate-incoming", { uri: `exec:cat ${state}` });
      await migrated(qmp);
      if (sizeMib) await qmp.execute("block_resize", { device: "disk0", size: sizeMib * 1024 ** 2 });
      await qmp.execute("cont");
    });
  }

  /** Talks to its QEMU. */
  async qmp<T>(talk: (qmp: Qmp) => Promise<T>): Promise<T> {
    const signal = soon();
    let qmp: Qmp | undefined;
    while (!qmp) {
      signal.throwIfAborted();
      // It takes QEMU a moment to make its socket.
      qmp = await Qmp.connect(host, join(this.#folder, "qmp"), signal).catch(() => undefined);
    }
    try {
      return await talk(qmp);
    } finally {
      qmp.close();
    }
  }

  waitFor(predicate: (guest: SeenGuest) => boolean): Promise<SeenGuest> {
    return this.hub.waitFor(this.id, predicate, soon());
  }

  /** Runs a program in the guest and collects what it writes. */
  async run(request: Partial<ExecRequestInput> & { command: string[] }, input = "") {
    const channel = await this.hub.channel(this.id, soon());
    const session = await channel.exec(ExecRequest.parse({ ...request, stdin: input !== "" }), soon());
    if (input) session.stdin.end(input);
    const [stdout, stderr] = await Promise.all([text(session.stdout), session.stderr ? text(session.stderr) : ""]);
    return { stdout, stderr, code: (await session.exit).code };
  }

  /** What a shell in the guest prints. */
  async sh(script: string): Promise<string> {
    return (await this.run({ command: ["sh", "-c", script], user: "root" })).stdout;
  }

  async open(port: string): Promise<Socket> {
    const socket = connect(join(this.#folder, port));
    await once(socket, "connect");
    this.sockets.push(socket);
    return socket;
  }

  log(port: string): Promise<string> {
    return readFile(join(this.#folder, `${port}.log`), "utf8");
  }

  /** Resolves when the machine has powered itself off. */
  async off(): Promise<void> {
    await this.#running?.done;
  }

  /** Cuts its power. */
  async end(): Promise<void> {
    this.hub.close();
    const pid = this.#running?.pid;
    if (pid) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
    await this.#running?.done.catch(() => {});
  }
}

async function ignoreShared(qmp: Qmp): Promise<void> {
  await qmp.execute("migrate-set-capabilities", { capabilities: [{ capability: "x-ignore-shared", state: true }] });
}

async function migrated(qmp: Qmp): Promise<void> {
  for (;;) {
    const { status, ...more } = (await qmp.execute("query-migrate")) as { status?: string };
    if (status === "completed") return;
    if (status === "failed") throw new Error(`The migration failed: ${JSON.stringify(more)}`);
  }
}
