import { describe, expect, test } from "vitest";
import type { CreateInputs } from "../driver.ts";
import {
  commandLine,
  diskNode,
  markOf,
  memoryBytes,
  readMark,
  type StartParts,
  siblingCommandLine,
} from "./command-line.ts";

const owner = { installationId: "b-1", instanceId: "i-00000000000000001" };
const sockets = {
  qmp: "/v/qmp.sock",
  work: "/v/work.sock",
  console: "/v/console.sock",
  control: "/v/control.sock",
  channel: "/v/channel.sock",
};
const inputs: CreateInputs = {
  owner,
  name: "web",
  cpus: 2,
  memoryMib: 512,
  disks: [{ name: "root", path: "/v/a,b.qcow2", format: "qcow2", readOnly: false }],
  nics: [{ name: "net", mac: "52:54:00:00:00:01", network: "user", forwards: [], netdev: "user,ipv6=off" }],
  kit: { kernelPath: "/k/vmlinuz", initrdPath: "/k/initrd.img", buildId: "1" },
  user: null,
  launcher: [],
};

const parts: StartParts = {
  sockets,
  accelerator: "tcg",
  generation: "0123456789abcdef0123",
  nodes: ["disk0-a"],
  fromMemory: false,
  paused: false,
};

/** The values of every occurrence of an option. */
function valuesOf(args: readonly string[], option: string): string[] {
  return args.flatMap((arg, index) => (arg === option ? [args[index + 1] ?? ""] : []));
}

describe("QEMU's command line", () => {
  const args = commandLine(inputs, parts);

  test.each([
    ["-name", ["berth/b-1/i-00000000000000001"]],
    ["-m", [`${512 * 1024 ** 2 - 8192}B`]],
    ["-smp", ["2"]],
    ["-display", ["none"]],
    ["-sandbox", ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]],
    ["-mon", ["chardev=qmp,mode=control", "chardev=work,mode=control"]],
    ["-netdev", ["user,ipv6=off,id=net0"]],
    ["-kernel", ["/k/vmlinuz"]],
    ["-initrd", ["/k/initrd.img"]],
  ])("has %s %j", (option, expected) => {
    expect(valuesOf(args, option)).toEqual(expected);
  });

  test("has nothing by QEMU's own choice", () => {
    expect(args).toEqual(expect.arrayContaining(["-nodefaults", "-no-user-config", "-no-reboot"]));
  });

  test.each([
    ["tcg", "tcg,tb-size=32", "max"],
    ["kvm", "kvm", "host"],
  ] as const)("runs by %s", (kind, accel, cpu) => {
    const chosen = commandLine(inputs, { ...parts, accelerator: kind });
    expect([valuesOf(chosen, "-accel"), valuesOf(chosen, "-cpu")]).toEqual([[accel], [cpu]]);
  });

  test("names each disk's format, for the file below it too, and keeps commas in a path", () => {
    const nodes = valuesOf(args, "-blockdev");
    expect(nodes).toEqual([
      "driver=qcow2,node-name=disk0-a,discard=unmap,read-only=off,file.driver=file,file.filename=/v/a,,b.qcow2,file.locking=on,file.discard=unmap",
    ]);
    const readOnly = { ...inputs, disks: [{ name: "seed", path: "/v/seed", format: "raw" as const, readOnly: true }] };
    for (const node of valuesOf(commandLine(readOnly, parts), "-blockdev")) expect(node).toMatch(/,read-only=on,/);
  });

  test("gives the first disk the start's generation for a serial number, the others their names", () => {
    const disks = ["root", "data"].map((name) => ({ name, path: "/v/x", format: "raw" as const, readOnly: false }));
    const devices = valuesOf(commandLine({ ...inputs, disks }, { ...parts, nodes: ["a", "b"] }), "-device");
    expect(devices.filter((device) => device.startsWith("virtio-blk"))).toEqual([
      "virtio-blk-pci,id=disk0,drive=a,serial=0123456789abcdef0123",
      "virtio-blk-pci,id=disk1,drive=b,serial=data",
    ]);
  });

  test("names a file's node by what the file is: well-formed for QEMU, and short enough", () => {
    expect(diskNode(0, "64769-12-1700000000000000000")).toMatch(/^disk0-[0-9a-f]{16}$/);
    expect(diskNode(0, "64769-12-1")).not.toBe(diskNode(0, "64769-12-2"));
  });

  test("has memory that is no multiple of 64 pages, whatever its size: QEMU 7.2 loses writes of others", () => {
    for (const mib of [64, 128, 256, 1000, 65_536]) {
      expect(memoryBytes(mib) % (64 * 4096)).not.toBe(0);
      expect(memoryBytes(mib) % 8192).toBe(0);
      expect(mib * 1024 ** 2 - memoryBytes(mib)).toBeLessThanOrEqual(8192);
    }
  });

  test("keeps what the guest writes on console and control in the logs' descriptors", () => {
    const chardevs = valuesOf(args, "-chardev");
    expect(chardevs).toContain(
      "socket,id=console,path=/v/console.sock,server=on,wait=off,logfile=/dev/fdset/3,logappend=on",
    );
    expect(chardevs).toContain(
      "socket,id=control,path=/v/control.sock,server=on,wait=off,logfile=/dev/fdset/4,logappend=on",
    );
    expect(valuesOf(args, "-add-fd")).toEqual(["set=3,fd=3", "set=4,fd=4", "set=5,fd=5"]);
    expect(valuesOf(args, "-device").filter((device) => /^virt(console|serialport)/.test(device))).toEqual([
      expect.stringContaining("nr=0,chardev=console"),
      expect.stringContaining("nr=1,chardev=control,name=berth.control"),
      expect.stringContaining("nr=2,chardev=channel,name=berth.channel"),
    ]);
  });
});

describe("going on from memory", () => {
  const cold = commandLine(inputs, parts);
  const warm = commandLine(inputs, { ...parts, fromMemory: true });
  const sibling = siblingCommandLine(inputs, {
    accelerator: "tcg",
    sockets: { qmp: "/v/sib.sock", hop: "/v/hop.sock" },
    diskBytes: [1024],
  });
  const devicesOf = (args: readonly string[]) =>
    valuesOf(args, "-device").map((device) => device.replace(/,(?:drive|serial)=[^,]*/g, ""));

  test("has the same machine, devices and memory as one that boots, in the same order", () => {
    for (const option of ["-machine", "-cpu", "-m", "-smp", "-accel", "-sandbox"])
      for (const args of [warm, sibling]) expect(valuesOf(args, option)).toEqual(valuesOf(cold, option));
    for (const args of [warm, sibling]) expect(devicesOf(args)).toEqual(devicesOf(cold));
    for (const args of [cold, warm, sibling])
      expect(valuesOf(args, "-object")[0]).toMatch(new RegExp(`,id=ram,size=${memoryBytes(512)}$`));
  });

  test("takes its memory privately by descriptor, and boots no kernel", () => {
    expect(valuesOf(warm, "-object")[0]).toContain("memory-backend-file,mem-path=/proc/self/fd/6,share=off,");
    expect([valuesOf(warm, "-incoming"), valuesOf(warm, "-kernel")]).toEqual([["defer"], []]);
    expect(valuesOf(cold, "-incoming")).toEqual([]);
  });

  test("a sibling has the file itself, nothing behind its disks, ports and network, and never runs", () => {
    expect(valuesOf(sibling, "-object")[0]).toContain("mem-path=/proc/self/fd/3,share=on,");
    expect(valuesOf(sibling, "-blockdev")[0]).toBe("driver=null-co,node-name=disk0,size=1024,read-zeroes=on");
    expect(valuesOf(sibling, "-netdev")).toEqual(["user,restrict=on,ipv6=off,id=net0"]);
    for (const chardev of valuesOf(sibling, "-chardev").slice(1)) expect(chardev).toMatch(/^null,id=\w+$/);
    expect(sibling).toContain("-S");
    expect(sibling.join(" ")).not.toContain("/v/a,,b.qcow2");
  });

  test("stays paused only when it boots paused: one from memory is paused anyway until it is let go on", () => {
    expect(commandLine(inputs, { ...parts, paused: true })).toContain("-S");
    expect(cold).not.toContain("-S");
    expect(warm).not.toContain("-S");
  });
});

describe("the owner's mark", () => {
  test("is read back from a command line", () => {
    expect(readMark(["/usr/bin/qemu-system-x86_64", ...commandLine(inputs, parts)])).toEqual({
      owner,
      isHypervisor: true,
      isSibling: false,
    });
    expect(markOf(owner)).toBe("berth/b-1/i-00000000000000001");
  });

  test("is read from a launcher too, which is not the hypervisor yet", () => {
    expect(readMark(["pasta", "--", "/usr/bin/qemu-system-x86_64", "-name", markOf(owner)])).toEqual({
      owner,
      isHypervisor: false,
      isSibling: false,
    });
  });

  test("tells a sibling from the machine", () => {
    const sibling = { accelerator: "tcg", sockets: { qmp: "/q", hop: "/h" }, diskBytes: [1] } as const;
    expect(readMark(["qemu-system-x86_64", ...siblingCommandLine(inputs, sibling)])).toEqual({
      owner,
      isHypervisor: true,
      isSibling: true,
    });
  });

  test.each([
    ["another program", ["vim", "-name", "berth/b-1/i-1"]],
    ["a program named like it", ["/x/not-qemu-system-x86_64.sh", "-name", "berth/b-1/i-1"]],
    ["somebody else's machine", ["qemu-system-x86_64", "-name", "guest=web"]],
    ["no name at all", ["qemu-system-x86_64", "-m", "1"]],
    ["more than a mark", ["qemu-system-x86_64", "-name", "berth/b-1/i-1/more"]],
    ["less than a mark", ["qemu-system-x86_64", "-name", "berth/b-1/"]],
    ["a name that belongs to something else", ["qemu-system-x86_64", "-m", "1", "-name", "berth/b-1/i-1"]],
    ["nothing", []],
  ])("is not seen in %s", (_, args) => {
    expect(readMark(args)).toBeUndefined();
  });
});
