import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** What is installed, without what is only recommended. */
const packages = ["libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients", "qemu-system-x86"];
const leftOut = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*"];

/** Without what makes it slower and has no equal here: labels, namespaces and control groups of each machine, a daemon for their logs. */
const qemuConf = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
security_driver = "none"
stdio_handler = "file"
`;
const libvirtdConf = `auth_unix_rw = "none"
auth_unix_ro = "none"
log_level = 4
`;
/** Who its QEMU would run as; it wants to know the name. */
const qemuUser = "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin\n";
const qemuGroup = "libvirt-qemu:x:64055:\n";

/** The shell stays: it is number 1 of the namespace, and reaps what libvirt's machines leave. */
const init = "mount -t proc proc /proc && mount -t sysfs sysfs /sys && { libvirtd & wait; }";

/**
 * A libvirt from Debian's packages in a root of its own, and in namespaces of its own for mounts, processes, network, host name and IPC: nothing of it is
 * installed on this host, and nothing of it is seen there but its processes.
 */
export class Libvirt implements AsyncDisposable {
  readonly #root: string;
  readonly #unshare: ChildProcess;
  /** What it is, in words. */
  version = "";

  private constructor(root: string, unshare: ChildProcess) {
    this.#root = root;
    this.#unshare = unshare;
  }

  /** Installs and starts one below a folder. Only root can. */
  static async start(folder: string): Promise<Libvirt> {
    if (process.getuid?.() !== 0) throw new Error("libvirt is measured by root only: it needs a root of its own");
    const root = join(folder, "root");
    const dpkg = ["force-unsafe-io", ...leftOut.map((path) => `path-exclude=${path}`)];
    const options = ["--variant=minbase", "--quiet", ...dpkg.map((one) => `--dpkgopt=${one}`)];
    await run("mmdebstrap", [...options, `--include=${packages.join(",")}`, suite(), root]);
    writeFileSync(join(root, "etc/libvirt/qemu.conf"), qemuConf);
    writeFileSync(join(root, "etc/libvirt/libvirtd.conf"), libvirtdConf);
    appendFileSync(join(root, "etc/passwd"), qemuUser);
    appendFileSync(join(root, "etc/group"), qemuGroup);
    mkdirSync(join(root, "vm"));
    const libvirt = new Libvirt(root, spawnInside(root, join(folder, "libvirtd.log")));
    try {
      await libvirt.#answers();
      libvirt.version = (await libvirt.virsh("version"))
        .split("\n")
        .flatMap((line) => /^(?:Using library|Running hypervisor): (.*)$/.exec(line)?.[1] ?? [])
        .join(", ");
      return libvirt;
    } catch (error) {
      await libvirt[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Where files are that its machines may have. */
  get folder(): string {
    return join(this.#root, "vm");
  }

  /** How it calls a file of `folder`. */
  inside(path: string): string {
    if (!path.startsWith(`${this.folder}/`)) throw new Error(`${path} is not in libvirt's root`);
    return path.slice(this.#root.length);
  }

  /** Runs one command of virsh; resolves with what it says. */
  async virsh(...args: readonly string[]): Promise<string> {
    const namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--root", "--wd=/"];
    const { stdout } = await run("nsenter", [`--target=${this.#init()}`, ...namespaces, "virsh", "--quiet", ...args]);
    return stdout;
  }

  /** Ends it, its machines and its namespaces. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#unshare.exitCode === null && this.#unshare.signalCode === null) {
      this.#unshare.kill("SIGKILL");
      await once(this.#unshare, "exit");
    }
  }

  /** The process number 1 of its namespace. */
  #init(): string {
    const { pid } = this.#unshare;
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ");
    if (!child) throw new Error("libvirt's namespaces have no process yet");
    return child;
  }

  /** Waits until it answers. */
  async #answers(): Promise<void> {
    const deadline = performance.now() + 60_000;
    for (;;) {
      try {
        await this.virsh("list");
        return;
      } catch (error) {
        if (this.#unshare.exitCode !== null || performance.now() > deadline) throw error;
        await delay(50);
      }
    }
  }
}

/** Installs one in a scratch folder when it is first asked for; it goes, with the folder, when this is disposed of. */
export function lazyLibvirt(say: (line: string) => void): AsyncDisposable & { get(): Promise<Libvirt> } {
  let made: { readonly folder: string; readonly libvirt: Promise<Libvirt> } | undefined;
  const make = () => {
    say("installing libvirt in a root of its own");
    const folder = mkdtempSync(join(tmpdir(), "berth-libvirt-"));
    return { folder, libvirt: Libvirt.start(folder) };
  };
  return {
    get() {
      made ??= make();
      return made.libvirt;
    },
    async [Symbol.asyncDispose]() {
      if (!made) return;
      const { folder, libvirt } = made;
      // One that could not be started has ended itself.
      await libvirt.then(
        (one) => one[Symbol.asyncDispose](),
        () => {},
      );
      rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

/** Everything in it ends with this process, however it ends. */
function spawnInside(root: string, logPath: string): ChildProcess {
  const log = openSync(logPath, "a");
  const namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL", `--root=${root}`];
  try {
    return spawn("setpriv", ["--pdeathsig", "KILL", "unshare", ...namespaces, "/bin/sh", "-c", init], {
      stdio: ["ignore", log, log],
    });
  } finally {
    closeSync(log);
  }
}

/** This host's own release of Debian: its package sources are the ones to be had. */
function suite(): string {
  const text = readFileSync("/etc/os-release", "utf8");
  const name = /^VERSION_CODENAME=(.*)$/m.exec(text)?.[1];
  if (!name || !/^ID=debian$/m.test(text))
    throw new Error("libvirt is measured on Debian only: it is installed from there");
  return name;
}
