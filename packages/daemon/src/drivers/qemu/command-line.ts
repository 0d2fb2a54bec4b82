import { createHash } from "node:crypto";
import type { CreateInputs, OwnerMark } from "../driver.ts";

/** Which processor the guest gets: the host's own or one that QEMU translates for. */
export type AcceleratorKind = "kvm" | "tcg";

/** Where the hypervisor finds its sockets. */
export interface MachineSockets {
  readonly qmp: string;
  /** A second way to its monitor, for work that takes long: each takes one client at a time. */
  readonly work: string;
  readonly console: string;
  readonly control: string;
  readonly channel: string;
}

/** The descriptors it gets for what the guest writes: console, control lines, and early kernel messages. */
const logFds = { console: 3, control: 4, machine: 5 } as const;
/** The descriptors it gets, behind those, when it goes on from memory: the guest's memory, and the devices' state. */
const memoryFds = { ram: 6, state: 7 } as const;
/** The descriptor that a sibling gets: the file it fills with the guest's memory. */
const siblingRamFd = 3;

/** Where a machine that goes on from memory reads its devices' state. */
export const stateUri = `fd:${memoryFds.state}`;

/**
 * The translation buffer of a TCG guest. Measured with a 6.1 kernel booting to its first word: 16 MiB is 15 % slower, 32, 64 and the default
 * (a quarter of the guest's memory, at most 1 GiB) are equal, and each guest keeps all it has touched of it.
 */
const translationBufferMib = 32;

/**
 * What a guest has less of than asked, so that its memory is no multiple of 64 pages. QEMU before 9.0 forgets, for memory that is, to have translated code (TCG) tell of the next
 * write to a page whose writes it has just collected: a machine saved while it runs would lose writes (cpu_physical_memory_sync_dirty_bitmap, its fast path). Memory comes in
 * steps of 8 KiB.
 */
const oddBytes = 8192;

/** How long a guest's memory is, in bytes. */
export function memoryBytes(memoryMib: number): number {
  return memoryMib * 1024 * 1024 - oddBytes;
}

/**
 * `console=` is given twice: early kernel messages go to the serial port, /dev/console is the last one, the virtio console. A panic ends QEMU
 * (`panic=-1` reboots at once, `-no-reboot` makes that an exit).
 */
const kernelArguments = "quiet loglevel=3 console=ttyS0 console=hvc0 panic=-1";

/** The owner's mark as QEMU's `-name` carries it: the guest cannot change it, and /proc shows it exactly. */
export function markOf(owner: OwnerMark): string {
  return `berth/${owner.installationId}/${owner.instanceId}`;
}

/** A process that carries an owner's mark. */
export interface Marked {
  readonly owner: OwnerMark;
  /** Whether it is a QEMU by now, or a launcher that is about to become one. */
  readonly isHypervisor: boolean;
  /** Whether it is no machine but the sibling of one, which only helps to save its memory. */
  readonly isSibling: boolean;
}

const siblingMark = "sibling";

/** Whose mark these arguments of a process carry: exactly a QEMU's program, `-name` and the mark, as the command lines here put them. */
export function readMark(args: readonly string[]): Marked | undefined {
  const at = args.findIndex((arg, index) => /(^|\/)qemu-system-[a-z0-9_]+$/.test(arg) && args[index + 1] === "-name");
  const [kind, installationId, instanceId, ...rest] = (at < 0 ? "" : (args[at + 2] ?? "")).split("/");
  const isSibling = rest.length === 1 && rest[0] === siblingMark;
  if (kind !== "berth" || !installationId || !instanceId || (rest.length > 0 && !isSibling)) return undefined;
  return { owner: { installationId, instanceId }, isHypervisor: at === 0, isSibling };
}

/** How one start of a machine differs from another. */
export interface StartParts {
  readonly sockets: MachineSockets;
  readonly accelerator: AcceleratorKind;
  /** Tells the guest this start from any other: its first disk's serial number, at most 20 characters. */
  readonly generation: string;
  /** What the disks' nodes are called (`diskNode`). */
  readonly nodes: readonly string[];
  /** Whether its memory comes by descriptor, to be gone on from. */
  readonly fromMemory: boolean;
  readonly paused: boolean;
}

/** QEMU's arguments for an instance; pure. Everything it has is named here (`-nodefaults`), so nothing appears by QEMU's own choice. */
export function commandLine(inputs: CreateInputs, parts: StartParts): string[] {
  const { sockets, accelerator, generation, nodes, fromMemory } = parts;
  const ram = fromMemory
    ? `memory-backend-file,mem-path=/proc/self/fd/${memoryFds.ram},share=off`
    : "memory-backend-ram";
  const disks = inputs.disks.map((disk, index) => ({
    blockdev: diskBlockdev(disk, nodes[index] ?? ""),
    node: nodes[index] ?? "",
    serial: index === 0 ? generation : disk.name.slice(0, 20),
  }));
  return [
    ...["-name", markOf(inputs.owner)],
    ...machineArguments(inputs, accelerator, ram),
    ...["-chardev", socket("qmp", sockets.qmp), "-mon", "chardev=qmp,mode=control"],
    ...["-chardev", socket("work", sockets.work), "-mon", "chardev=work,mode=control"],
    ...Object.values(logFds).flatMap((fd) => ["-add-fd", `set=${fd},fd=${fd}`]),
    ...["-chardev", `${socket("console", sockets.console)},${loggedTo(logFds.console)}`],
    ...["-chardev", `${socket("control", sockets.control)},${loggedTo(logFds.control)}`],
    ...["-chardev", socket("channel", sockets.channel)],
    ...["-chardev", `null,id=machine,${loggedTo(logFds.machine)}`],
    ...deviceArguments({ inputs, disks, netdevs: inputs.nics.map(({ netdev }) => netdev) }),
    // What is in memory already needs no kernel: a machine never boots twice (-no-reboot).
    ...(fromMemory ? ["-incoming", "defer"] : kernelOf(inputs)),
    ...(parts.paused && !fromMemory ? ["-S"] : []),
  ];
}

/** A sibling's own. */
export interface SiblingParts {
  readonly accelerator: AcceleratorKind;
  readonly sockets: { readonly qmp: string; readonly hop: string };
  /** How long the machine's disks are, in bytes. */
  readonly diskBytes: readonly number[];
}

/** A node that is nothing and takes no part in a machine, but for the bitmap that is kept of it: `save-memory.ts` has the reason. */
export const gate = { node: "gate", bytes: 4 * 1024 ** 3, granularity: 512 } as const;

/**
 * QEMU's arguments for a machine's sibling; pure. It has the same devices, with nothing behind them, and its memory is a file. It never runs: it takes over the machine's state and
 * writes it down.
 */
export function siblingCommandLine(inputs: CreateInputs, { accelerator, sockets, diskBytes }: SiblingParts): string[] {
  const nothing = (id: string) => ["-chardev", `null,id=${id}`];
  const disks = diskBytes.map((bytes, index) => {
    const node = `disk${index}`;
    return { node, blockdev: nullBlockdev(node, bytes), serial: node };
  });
  return [
    ...["-name", `${markOf(inputs.owner)}/${siblingMark}`],
    ...machineArguments(inputs, accelerator, `memory-backend-file,mem-path=/proc/self/fd/${siblingRamFd},share=on`),
    ...["-chardev", socket("qmp", sockets.qmp), "-mon", "chardev=qmp,mode=control"],
    // An open port is saved as open: who goes on from it learns that nobody is connected.
    ...["console", "control", "channel", "machine"].flatMap(nothing),
    ...deviceArguments({ inputs, disks, netdevs: inputs.nics.map(() => "user,restrict=on,ipv6=off") }),
    ...["-blockdev", nullBlockdev(gate.node, gate.bytes)],
    ...["-S", "-incoming", `unix:${escaped(sockets.hop)}`],
  ];
}

/** The machine without its devices. Its memory has the same name whatever is behind it: by that it is found in a saved state. */
function machineArguments(
  inputs: Pick<CreateInputs, "cpus" | "memoryMib">,
  accelerator: AcceleratorKind,
  ram: string,
): string[] {
  const bytes = memoryBytes(inputs.memoryMib);
  return [
    ...["-nodefaults", "-no-user-config", "-no-reboot"],
    ...["-display", "none"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-machine", "q35,usb=off,vmport=off,smbus=off,sata=off,graphics=off,memory-backend=ram"],
    ...acceleratorArguments(accelerator),
    ...["-m", `${bytes}B`, "-object", `${ram},id=ram,size=${bytes}`, "-smp", String(inputs.cpus)],
  ];
}

/**
 * The devices, in an order that never changes: a saved state knows them by their places. What leads into the guest are first two console ports, since those take what the guest
 * writes whether or not anybody is connected; any other port makes the guest wait for a reader. What it writes also goes, before anyone reads it, to the log's descriptor.
 */
function deviceArguments(parts: {
  readonly inputs: Pick<CreateInputs, "nics">;
  readonly disks: readonly { readonly blockdev: string; readonly node: string; readonly serial: string }[];
  readonly netdevs: readonly string[];
}): string[] {
  return [
    ...["-device", "isa-serial,chardev=machine"],
    ...["-device", "virtio-serial-pci,id=ports"],
    ...["-device", "virtconsole,bus=ports.0,nr=0,chardev=console,name=berth.console"],
    ...["-device", "virtconsole,bus=ports.0,nr=1,chardev=control,name=berth.control"],
    ...["-device", "virtserialport,bus=ports.0,nr=2,chardev=channel,name=berth.channel"],
    ...["-object", "rng-builtin,id=random", "-device", "virtio-rng-pci,rng=random"],
    ...parts.disks.flatMap(({ blockdev, node, serial }, index) => [
      ...["-blockdev", blockdev],
      ...["-device", `virtio-blk-pci,id=${diskDevice(index)},drive=${node},serial=${serial}`],
    ]),
    ...parts.inputs.nics.flatMap((nic, index) => nicArguments(nic, parts.netdevs[index] ?? "", index)),
  ];
}

function acceleratorArguments(kind: AcceleratorKind): string[] {
  if (kind === "kvm") return ["-accel", "kvm", "-cpu", "host"];
  return ["-accel", `tcg,tb-size=${translationBufferMib}`, "-cpu", "max"];
}

function loggedTo(fd: number): string {
  return `logfile=/dev/fdset/${fd},logappend=on`;
}

function socket(id: string, path: string): string {
  return `socket,id=${id},path=${escaped(path)},server=on,wait=off`;
}

/** What a disk's device is called in QEMU, by its place. */
export function diskDevice(index: number): string {
  return `disk${index}`;
}

/** What the node of a disk's file is called in QEMU: another for each file, so that it can be told which one a machine has, whatever the file is called by now. */
export function diskNode(index: number, fileIdentity: string): string {
  return `${diskDevice(index)}-${createHash("sha256").update(fileIdentity).digest("hex").slice(0, 16)}`;
}

/**
 * The lock keeps a second QEMU from the same disk; discards give space back. Writes go through the host's page cache and are made durable when the guest flushes (QEMU's
 * `writeback`): a host that crashes loses no more than a disk would.
 */
function diskBlockdev(disk: CreateInputs["disks"][number], node: string): string {
  const readOnly = disk.readOnly ? "on" : "off";
  const file = `file.driver=file,file.filename=${escaped(disk.path)},file.locking=on,file.discard=unmap`;
  return `driver=${disk.format},node-name=${node},discard=unmap,read-only=${readOnly},${file}`;
}

function nullBlockdev(node: string, bytes: number): string {
  return `driver=null-co,node-name=${node},size=${bytes},read-zeroes=on`;
}

/** What a card is joined to is called in QEMU, by its place. */
export function netdevId(index: number): string {
  return `net${index}`;
}

/** Without a boot ROM: the kernel is given, or the disk is booted. */
function nicArguments(nic: CreateInputs["nics"][number], netdev: string, index: number): string[] {
  const device = `virtio-net-pci,id=nic${index},netdev=${netdevId(index)},mac=${nic.mac},romfile=`;
  return ["-netdev", `${netdev},id=${netdevId(index)}`, "-device", device];
}

function kernelOf({ kit }: CreateInputs): string[] {
  return kit ? ["-kernel", kit.kernelPath, "-initrd", kit.initrdPath, "-append", kernelArguments] : [];
}

/** QEMU's option syntax takes a comma for the next option unless it is doubled. */
function escaped(value: string): string {
  return value.replaceAll(",", ",,");
}
