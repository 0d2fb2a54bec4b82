import type { CreateInputs, OwnerMark } from "../driver.ts";

/** Which processor the guest gets: the host's own or one that QEMU translates for. */
export type AcceleratorKind = "kvm" | "tcg";

/** Where the hypervisor finds its sockets. */
export interface MachineSockets {
  readonly qmp: string;
  readonly console: string;
  readonly control: string;
  readonly channel: string;
}

/** The descriptors it gets for what the guest writes: console, control lines, and early kernel messages. */
const logFds = { console: 3, control: 4, machine: 5 } as const;

/**
 * The translation buffer of a TCG guest. Measured with a 6.1 kernel booting to its first word: 16 MiB is 15 % slower, 32, 64 and the default
 * (a quarter of the guest's memory, at most 1 GiB) are equal, and each guest keeps all it has touched of it.
 */
const translationBufferMib = 32;

/**
 * `console=` is given twice: early kernel messages go to the serial port, /dev/console is the last one, the virtio console. A panic ends QEMU
 * (`panic=-1` reboots at once, `-no-reboot` makes that an exit).
 */
const kernelArguments = "quiet loglevel=3 console=ttyS0 console=hvc0 panic=-1";

/** The owner's mark as QEMU's `-name` carries it: the guest cannot change it, and /proc shows it exactly. */
export function markOf(owner: OwnerMark): string {
  return `berth/${owner.installationId}/${owner.instanceId}`;
}

/** A process that carries an owner's mark: the hypervisor itself, or a launcher that is about to become it. */
export interface Marked {
  readonly owner: OwnerMark;
  readonly isHypervisor: boolean;
}

/** Whose mark these arguments of a process carry: exactly a QEMU's program, `-name` and the mark, as `commandLine` puts them. */
export function readMark(args: readonly string[]): Marked | undefined {
  const at = args.findIndex((arg, index) => /(^|\/)qemu-system-[a-z0-9_]+$/.test(arg) && args[index + 1] === "-name");
  const [kind, installationId, instanceId, ...rest] = (at < 0 ? "" : (args[at + 2] ?? "")).split("/");
  if (kind !== "berth" || !installationId || !instanceId || rest.length > 0) return undefined;
  return { owner: { installationId, instanceId }, isHypervisor: at === 0 };
}

/** QEMU's arguments for an instance; pure. Everything it has is named here (`-nodefaults`), so nothing appears by QEMU's own choice. */
export function commandLine(inputs: CreateInputs, sockets: MachineSockets, accelerator: AcceleratorKind): string[] {
  return [
    ...["-name", markOf(inputs.owner)],
    ...["-nodefaults", "-no-user-config", "-no-reboot"],
    ...["-display", "none"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-machine", "q35,usb=off,vmport=off,smbus=off,sata=off,graphics=off"],
    ...acceleratorArguments(accelerator),
    ...["-m", `${inputs.memoryMib}M`, "-smp", String(inputs.cpus)],
    ...["-chardev", socket("qmp", sockets.qmp), "-mon", "chardev=qmp,mode=control"],
    ...portArguments(sockets),
    ...["-object", "rng-builtin,id=random", "-device", "virtio-rng-pci,rng=random"],
    ...inputs.disks.flatMap(diskArguments),
    ...inputs.nics.flatMap(nicArguments),
    ...kernelOf(inputs),
  ];
}

function acceleratorArguments(kind: AcceleratorKind): string[] {
  if (kind === "kvm") return ["-accel", "kvm", "-cpu", "host"];
  return ["-accel", `tcg,tb-size=${translationBufferMib}`, "-cpu", "max"];
}

/**
 * What leads into the guest. The first two are console ports, since those take what the guest writes whether or not anybody is connected; any
 * other port makes the guest wait for a reader. What it writes also goes, before anyone reads it, to the log's descriptor.
 */
function portArguments(sockets: MachineSockets): string[] {
  return [
    ...logDescriptors(),
    ...["-chardev", `${socket("console", sockets.console)},${loggedTo(logFds.console)}`],
    ...["-chardev", `${socket("control", sockets.control)},${loggedTo(logFds.control)}`],
    ...["-chardev", socket("channel", sockets.channel)],
    ...["-chardev", `null,id=machine,${loggedTo(logFds.machine)}`, "-device", "isa-serial,chardev=machine"],
    ...["-device", "virtio-serial-pci,id=ports"],
    ...["-device", "virtconsole,bus=ports.0,nr=0,chardev=console,name=berth.console"],
    ...["-device", "virtconsole,bus=ports.0,nr=1,chardev=control,name=berth.control"],
    ...["-device", "virtserialport,bus=ports.0,nr=2,chardev=channel,name=berth.channel"],
  ];
}

function logDescriptors(): string[] {
  return Object.values(logFds).flatMap((fd) => ["-add-fd", `set=${fd},fd=${fd}`]);
}

function loggedTo(fd: number): string {
  return `logfile=/dev/fdset/${fd},logappend=on`;
}

function socket(id: string, path: string): string {
  return `socket,id=${id},path=${escaped(path)},server=on,wait=off`;
}

/**
 * Three nodes each: the file, its format, the device. The lock keeps a second QEMU from the same disk; discards give space back. Writes go through
 * the host's page cache and are made durable when the guest flushes (QEMU's `writeback`): a host that crashes loses no more than a disk would.
 */
function diskArguments(disk: CreateInputs["disks"][number], index: number): string[] {
  const readOnly = disk.readOnly ? "on" : "off";
  const file = `driver=file,node-name=file${index},filename=${escaped(disk.path)},locking=on,discard=unmap,read-only=${readOnly}`;
  const format = `driver=${disk.format},node-name=disk${index},file=file${index},discard=unmap,read-only=${readOnly}`;
  const device = `virtio-blk-pci,drive=disk${index},serial=${disk.name.slice(0, 20)}`;
  return ["-blockdev", file, "-blockdev", format, "-device", device];
}

/** Without a boot ROM: the kernel is given, or the disk is booted. */
function nicArguments(nic: CreateInputs["nics"][number], index: number): string[] {
  return [
    "-netdev",
    `${nic.netdev},id=net${index}`,
    "-device",
    `virtio-net-pci,netdev=net${index},mac=${nic.mac},romfile=`,
  ];
}

function kernelOf({ kit }: CreateInputs): string[] {
  return kit ? ["-kernel", kit.kernelPath, "-initrd", kit.initrdPath, "-append", kernelArguments] : [];
}

/** QEMU's option syntax takes a comma for the next option unless it is doubled. */
function escaped(value: string): string {
  return value.replaceAll(",", ",,");
}
