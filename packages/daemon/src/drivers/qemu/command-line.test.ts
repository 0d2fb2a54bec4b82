import { describe, expect, test } from "vitest";
import type { CreateInputs } from "../driver.ts";
import { commandLine, markOf, readMark } from "./command-line.ts";

const owner = { installationId: "b-1", instanceId: "i-00000000000000001" };
const sockets = {
  qmp: "/v/qmp.sock",
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

/** The values of every occurrence of an option. */
function valuesOf(args: readonly string[], option: string): string[] {
  return args.flatMap((arg, index) => (arg === option ? [args[index + 1] ?? ""] : []));
}

describe("QEMU's command line", () => {
  const args = commandLine(inputs, sockets, "tcg");

  test.each([
    ["-name", ["berth/b-1/i-00000000000000001"]],
    ["-m", ["512M"]],
    ["-smp", ["2"]],
    ["-display", ["none"]],
    ["-sandbox", ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]],
    ["-mon", ["chardev=qmp,mode=control"]],
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
    const chosen = commandLine(inputs, sockets, kind);
    expect([valuesOf(chosen, "-accel"), valuesOf(chosen, "-cpu")]).toEqual([[accel], [cpu]]);
  });

  test("names each disk's format, for the file below it too, and keeps commas in a path", () => {
    const nodes = valuesOf(args, "-blockdev");
    expect(nodes[0]).toMatch(/^driver=file,node-name=file0,filename=\/v\/a,,b\.qcow2,locking=on,.*read-only=off$/);
    expect(nodes[1]).toMatch(/^driver=qcow2,node-name=disk0,file=file0,/);
    const readOnly = { ...inputs, disks: [{ name: "seed", path: "/v/seed", format: "raw" as const, readOnly: true }] };
    for (const node of valuesOf(commandLine(readOnly, sockets, "tcg"), "-blockdev"))
      expect(node).toMatch(/read-only=on$/);
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

describe("the owner's mark", () => {
  test("is read back from a command line", () => {
    expect(readMark(["/usr/bin/qemu-system-x86_64", ...commandLine(inputs, sockets, "tcg")])).toEqual({
      owner,
      isHypervisor: true,
    });
    expect(markOf(owner)).toBe("berth/b-1/i-00000000000000001");
  });

  test("is read from a launcher too, which is not the hypervisor yet", () => {
    expect(readMark(["pasta", "--", "/usr/bin/qemu-system-x86_64", "-name", markOf(owner)])).toEqual({
      owner,
      isHypervisor: false,
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
