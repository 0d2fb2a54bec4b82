import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, symlink, truncate, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ExecRequest, type ExecRequestInput } from "@berth/api";
import type { KitDescription } from "../../core/descriptions.ts";
import { Qmp } from "../../drivers/qemu/qmp.ts";
import { localHost } from "../../host/local.ts";
import { type GuestConfig, type GuestProcess, machineIdOf } from "../config.ts";
import { GuestControl } from "../control.ts";
import type { GuestFact } from "../facts.ts";
import { GuestHub, type SeenGuest } from "../hub.ts";
import { createKeys, type InstanceKeys } from "../keys.ts";
import { findKit } from "../kit/find-kit.ts";

const host = localHost();
/** Long enough for a busy machine. */
export const soon = () => AbortSignal.timeout(60_000);
const applets =
  "cat date df echo env false grep head hostname httpd id ifconfig kill ln ls mkdir nc od printf ps pwd chmod setsid sh sleep sort stat stty sync touch tty wc yes";
const memoryMib = 256;
/** A machine serves all tests of a file, which take minutes on a busy host; the limit only ends one that was forgotten. */
const machineLifeMs = 900_000;

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

/** The memory of a machine as a file, the state of its devices, and its disk at that moment. */
export interface Memory {
  readonly ram: string;
  readonly state: string;
  /** A raw disk that nobody writes to any more. */
  readonly disk: string;
}

export interface BootOptions {
  /** What runs, beside `plainProcess`. */
  readonly process?: Partial<GuestProcess>;
  readonly watchPorts?: readonly number[];
  /** The test talks to the guest itself: nobody else tells it anything until `listen`. */
  readonly alone?: boolean;
  /** Instead of the real one. */
  readonly kit?: KitDescription;
  /** A second disk, raw. */
  readonly volumes?: string;
}

/** One machine with the real kit, under bare QEMU. */
export class GuestMachine {
  readonly hub = new GuestHub();
  readonly keys: InstanceKeys = createKeys();
  readonly sockets: Socket[] = [];
  readonly id: string;
  /** What it is told beside what every guest is told. */
  overrides: Partial<GuestConfig> = {};
  readonly #folder: string;
  readonly mac: string;
  #options: BootOptions = {};
  /** The file it was powered on with. */
  disk = "";
  #running: ReturnType<typeof host.start> | undefined;

  /** Its sockets, memory and logs are kept in the folder. Number: from 1 to 99, another for each machine; its id and addresses are made of it. */
  constructor(folder: string, number = 1) {
    this.#folder = folder;
    this.id = `i-${String(number).padStart(17, "0")}`;
    this.mac = `52:54:00:00:00:${String(number).padStart(2, "0")}`;
  }

  /** Powers it on with a raw disk. */
  async boot(disk: string, options: BootOptions = {}): Promise<void> {
    await this.#powerOn({ disk, format: "raw", ram: join(this.#folder, "ram"), share: true }, options);
    if (!options.alone) this.listen();
  }

  /** Lets it go on from another machine's memory, which it does not change, with an overlay over that one's disk of this size. */
  async goOn({ ram, state, disk }: Memory, sizeMib: number, options: BootOptions = {}): Promise<void> {
    const overlay = this.overlay();
    await host.run("qemu-img", ["create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay, `${sizeMib}M`]);
    await this.#powerOn({ disk: overlay, format: "qcow2", ram, share: false }, options);
    await this.qmp(async (qmp) => {
      await ignoreShared(qmp);
      await qmp.execute("migrate-incoming", { uri: `exec:cat ${state}` });
      await migrated(qmp);
      // The guest still has the size that the other's disk had.
      await qmp.execute("block_resize", { device: "disk0", size: sizeMib * 1024 ** 2 });
      await qmp.execute("cont");
    });
    if (!options.alone) this.listen();
  }

  /** The disk of a machine that goes on from memory: a qcow2 overlay. */
  overlay(): string {
    return join(this.#folder, "disk.qcow2");
  }

  async #powerOn(
    { disk, format, ram, share }: { disk: string; format: string; ram: string; share: boolean },
    options: BootOptions,
  ): Promise<void> {
    this.#options = options;
    this.disk = disk;
    const kit = options.kit ?? (await realKit());
    const socket = (name: string) =>
      `socket,id=${name},path=${join(this.#folder, name)},server=on,wait=off,logfile=${join(this.#folder, name)}.log`;
    const { architecture } = await host.facts();
    const memory = `memory-backend-file,id=ram,size=${memoryMib}M,mem-path=${ram},share=${share ? "on" : "off"}`;
    this.#running = host.start(
      architecture === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64",
      [
        ...["-M", `${architecture === "arm64" ? "virt" : "q35"},memory-backend=ram`, "-accel", "tcg"],
        ...["-m", String(memoryMib), "-object", memory, "-nodefaults", "-no-reboot"],
        ...["-display", "none", "-kernel", kit.kernelPath, "-initrd", kit.initrdPath],
        ...["-append", "quiet loglevel=3 console=ttyS0 console=hvc0 panic=-1"],
        ...["-drive", `file=${disk},format=${format},if=none,id=disk0`],
        ...["-device", `virtio-blk-pci,drive=disk0,serial=${randomBytes(10).toString("hex")}`],
        ...(options.volumes
          ? [
              ...["-drive", `file=${options.volumes},format=raw,if=none,id=volumes`],
              ...["-device", "virtio-blk-pci,drive=volumes,serial=volumes"],
            ]
          : []),
        ...["-device", "virtio-serial-pci"],
        ...["-chardev", socket("console"), "-device", "virtconsole,chardev=console"],
        ...["-chardev", socket("control"), "-device", "virtconsole,chardev=control,name=berth.control"],
        ...["-chardev", socket("channel"), "-device", "virtserialport,chardev=channel,name=berth.channel"],
        ...["-netdev", "user,id=net,restrict=on", "-device", `virtio-net-pci,netdev=net,mac=${this.mac},romfile=`],
        ...["-chardev", socket("qmp"), "-mon", "chardev=qmp,mode=control"],
        ...(share ? [] : ["-incoming", "defer"]),
      ],
      { timeoutMs: machineLifeMs },
    );
    this.#running.done.catch(() => {});
  }

  /** Begins to listen to it and tells it what a guest must be told. */
  listen(): void {
    this.hub.attach(this.id, {
      openPort: (port) => this.open(port),
      keys: this.keys,
      config: () => ({
        id: this.id,
        hostname: "web",
        machineId: machineIdOf(this.id),
        process: { ...plainProcess, ...this.#options.process },
        watchPorts: this.#options.watchPorts ?? [],
        interfaces: [{ mac: this.mac, address: "10.0.2.15/24", gateway: "10.0.2.2", dns: ["10.0.2.3"] }],
        channel: { hostKey: this.keys.hostKey, clientPublicKey: this.keys.clientPublicKey },
        nowMs: Date.now(),
        seed: randomBytes(64).toString("base64"),
        ...this.overrides,
      }),
    });
  }

  /** Talks to the control port of a machine that is alone until `done` has heard enough; gives that fact. */
  async converse(done: (fact: GuestFact, control: GuestControl) => boolean): Promise<GuestFact> {
    const signal = soon();
    let socket: Socket | undefined;
    while (!socket) {
      signal.throwIfAborted();
      // It takes QEMU a moment to make its sockets.
      socket = await this.open("control").catch(() => undefined);
    }
    const control = new GuestControl(socket);
    try {
      for await (const fact of control.facts()) if (done(fact, control)) return fact;
    } finally {
      control.close();
    }
    throw new Error("The guest said no more");
  }

  /** Stops it and copies its memory and disk into the folder. */
  async saveMemory(folder: string): Promise<Memory> {
    const memory = { ram: join(folder, "ram"), state: join(folder, "state"), disk: join(folder, "disk") };
    await this.qmp(async (qmp) => {
      await qmp.execute("stop");
      await ignoreShared(qmp);
      await qmp.execute("migrate", { uri: `exec:cat > ${memory.state}` });
      await migrated(qmp);
    });
    await host.run("cp", ["--sparse=always", join(this.#folder, "ram"), memory.ram]);
    await host.run("cp", ["--sparse=always", this.disk, memory.disk]);
    return memory;
  }

  /** The same while its guest holds; then both go on, as when a running machine is forked. */
  async copyMemory(folder: string): Promise<Memory> {
    await this.hub.hold(this.id, soon());
    const memory = await this.saveMemory(folder);
    await this.qmp((qmp) => qmp.execute("cont"));
    await this.hub.release(this.id, soon());
    return memory;
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

/** The kit that was built for this checkout. */
export async function realKit(): Promise<KitDescription> {
  const root = process.env.BERTH_KIT_DIR ?? join(import.meta.dirname, "../../../../../.tools/kit");
  const kit = await findKit(host, root);
  if (!kit) throw new Error("The guest kit is not built: run npm test, or node tools/build-kit.ts");
  return kit;
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
