import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { connect } from "node:net";
import { join, relative } from "node:path";
import type { StartConfig } from "@berth/api";
import { machineIdOf, processFrom } from "../../packages/daemon/src/guest/config.ts";
import { GuestControl } from "../../packages/daemon/src/guest/control.ts";
import { createKeys } from "../../packages/daemon/src/guest/keys.ts";
import { guestNetwork } from "../../packages/daemon/src/network/netdev.ts";
import type { Libvirt } from "./libvirt.ts";
import { createOverlay, optionOf, type RunningMachine } from "./running-machine.ts";

/** A domain of libvirt that is equal to an instance of Berth: kernel, initramfs, disk, processor, memory, devices, and the program in it. */
export interface Domain {
  /** `virsh start`: from nothing, or from what managedSave left. */
  start(): Promise<void>;
  /** Tells the guest who it is when it asks, and waits until it is ready. */
  ready(): Promise<void>;
  /** `virsh managedsave`. */
  managedSave(): Promise<void>;
  /** `virsh destroy`; its disk is as new for the next start. */
  destroy(): Promise<void>;
  /** Takes it and its files away; it must be off. */
  undefine(): Promise<void>;
}

/** What runs in it. */
export interface Program {
  readonly start: StartConfig;
  /** TCP ports that must be listened on before it is ready. */
  readonly ports: readonly number[];
}

/** How long a guest may take until it is ready. */
const patienceMs = 300_000;

/** Defines a domain that is equal to an instance's machine. */
export async function defineDomain(
  libvirt: Libvirt,
  name: string,
  machine: RunningMachine,
  program: Program,
): Promise<Domain> {
  const folder = join(libvirt.folder, name);
  mkdirSync(folder);
  const mac = `52:54:00${[...randomBytes(3)].map((byte) => `:${byte.toString(16).padStart(2, "0")}`).join("")}`;
  const disk = join(folder, "disk.qcow2");
  const backing = await bring(libvirt, machine.disk.backing.path);
  // A path from here to there is the same in libvirt's root.
  const overlay = { ...machine.disk, backing: { ...machine.disk.backing, path: relative(folder, backing) } };
  createOverlay(disk, overlay);
  const control = join(folder, "control");
  const description = join(folder, "domain.xml");
  const kernel = await bring(libvirt, optionOf(machine, "-kernel"));
  const initrd = await bring(libvirt, optionOf(machine, "-initrd"));
  writeFileSync(
    description,
    domainXml({
      name,
      mac,
      bytes: Number.parseInt(optionOf(machine, "-m"), 10),
      cpus: Number(optionOf(machine, "-smp")),
      kernel: libvirt.inside(kernel),
      initrd: libvirt.inside(initrd),
      kernelArguments: optionOf(machine, "-append"),
      disk: libvirt.inside(disk),
      control: libvirt.inside(control),
      channel: libvirt.inside(join(folder, "channel")),
    }),
  );
  await libvirt.virsh("define", libvirt.inside(description));
  return {
    start: async () => void (await libvirt.virsh("start", name)),
    ready: () => untilReady(control, name, mac, program),
    managedSave: async () => void (await libvirt.virsh("managedsave", name)),
    async destroy() {
      await libvirt.virsh("destroy", name);
      createOverlay(disk, overlay);
    },
    async undefine() {
      await libvirt.virsh("undefine", "--managed-save", name);
      rmSync(folder, { recursive: true });
    },
  };
}

/** Copies a file to where libvirt can have it, unless it was before. */
async function bring(libvirt: Libvirt, path: string): Promise<string> {
  const copy = join(libvirt.folder, `file-${createHash("sha256").update(path).digest("hex").slice(0, 16)}`);
  if (!existsSync(copy)) await copyFile(path, copy);
  return copy;
}

interface Parts {
  readonly name: string;
  readonly mac: string;
  readonly bytes: number;
  readonly cpus: number;
  /** Paths, as libvirt sees them. */
  readonly kernel: string;
  readonly initrd: string;
  readonly disk: string;
  readonly control: string;
  readonly channel: string;
  readonly kernelArguments: string;
}

/** What libvirt would add by itself (USB, a balloon, a boot ROM) is left out, as Berth leaves it out. */
function domainXml(parts: Parts): string {
  return `<domain type="qemu">
  <name>${parts.name}</name>
  <memory unit="b">${parts.bytes}</memory>
  <vcpu>${parts.cpus}</vcpu>
  <os>
    <type arch="x86_64" machine="q35">hvm</type>
    <kernel>${parts.kernel}</kernel>
    <initrd>${parts.initrd}</initrd>
    <cmdline>${parts.kernelArguments}</cmdline>
  </os>
  <features>
    <acpi/>
    <vmport state="off"/>
    <tcg><tb-cache unit="MiB">32</tb-cache></tcg>
  </features>
  <cpu mode="maximum"/>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type="usb" model="none"/>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" discard="unmap"/>
      <source file="${parts.disk}"/>
      <target dev="vda" bus="virtio"/>
      <serial>${parts.name}</serial>
    </disk>
    <interface type="user">
      <mac address="${parts.mac}"/>
      <model type="virtio"/>
      <rom enabled="no"/>
    </interface>
    <serial type="null"/>
    <console type="null"><target type="virtio"/></console>
    <channel type="unix">
      <source mode="bind" path="${parts.control}"/>
      <target type="virtio" name="berth.control"/>
    </channel>
    <channel type="unix">
      <source mode="bind" path="${parts.channel}"/>
      <target type="virtio" name="berth.channel"/>
    </channel>
    <rng model="virtio"><backend model="builtin"/></rng>
    <memballoon model="none"/>
    <audio id="1" type="none"/>
  </devices>
</domain>
`;
}

/** What berthd does for a guest, as far as its readiness goes. */
async function untilReady(socket: string, name: string, mac: string, { start, ports }: Program): Promise<void> {
  const stream = connect(socket);
  await once(stream, "connect");
  const patience = setTimeout(() => stream.destroy(), patienceMs);
  const control = new GuestControl(stream);
  try {
    for await (const fact of control.facts()) {
      const asks = fact.fact === "prepared" || (fact.fact === "hello" && fact.phase === "prepared");
      if (asks) control.configure(configOf(name, mac, { start, ports }));
      if (fact.fact === "ready" || (fact.fact === "hello" && fact.ready)) return;
      if (fact.fact === "failed") throw new Error(`the guest of ${name} failed: ${fact.reason}`);
    }
  } finally {
    clearTimeout(patience);
    control.close();
  }
  throw new Error(`the guest of ${name} did not get ready`);
}

function configOf(name: string, mac: string, { start, ports }: Program) {
  const { hostKey, clientPublicKey } = createKeys();
  const { guest, gateway, dns } = guestNetwork;
  return {
    id: name,
    hostname: name,
    machineId: machineIdOf(name),
    process: processFrom(start, { entrypoint: null, command: null, env: {}, tty: false }, name),
    watchPorts: ports,
    interfaces: [{ mac, address: `${guest}/24`, gateway, dns: [dns] }],
    channel: { hostKey, clientPublicKey },
    nowMs: Date.now(),
    seed: randomBytes(64).toString("base64"),
  };
}
