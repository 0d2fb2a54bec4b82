import type { Check, Node } from "@berth/api";
import type { Host } from "../host/host.ts";

/** What a node's record is made from. */
export interface NodeParts {
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly dataDir: string;
  readonly startedAt: string;
  readonly host: Host;
  readonly locations: Node["locations"];
  /** How guests are run here; null while it is being found out. */
  readonly accelerator: Node["accelerator"];
  /** Whether guests can be joined to networks and kept from the host. */
  readonly networkCheck: Check;
  /** Build of the guest kit; null when there is none. */
  readonly kitBuildId: string | null;
}

/** What the host's programs are for, and the Debian package each is in. */
const programs = [
  { program: "qemu-system-x86_64", package: "qemu-system-x86", use: "runs guests", architecture: "amd64" },
  { program: "qemu-system-aarch64", package: "qemu-system-arm", use: "runs guests", architecture: "arm64" },
  { program: "qemu-img", package: "qemu-utils", use: "makes disks" },
  { program: "mke2fs", package: "e2fsprogs", use: "makes file systems" },
  { program: "buildah", package: "buildah", use: "builds Dockerfiles" },
  { program: "git", package: "git", use: "fetches repositories to build" },
  { program: "s6-log", package: "s6", use: "keeps console logs within bounds" },
] as const;

/** A node as it is now: what its machine has, what its drivers can do, and what is missing. */
export async function describeNode(parts: NodeParts): Promise<Node> {
  const facts = await parts.host.facts();
  const free = await parts.host.files.freeBytes(parts.dataDir);
  return {
    id: parts.id,
    name: parts.name,
    version: parts.version,
    architecture: facts.architecture,
    kernel: facts.kernel,
    cpus: facts.cpus,
    memoryMib: facts.memoryMib,
    diskFreeMib: Math.floor(free / 2 ** 20),
    accelerator: parts.accelerator,
    locations: parts.locations,
    checks: [
      ...(await checkPrograms(parts.host, facts.architecture)),
      checkKit(parts.kitBuildId),
      parts.networkCheck,
      checkDisk(free),
    ],
    startedAt: parts.startedAt,
  };
}

/** A host name as a name of ours: its first label, in lower case. */
export function nodeName(hostname: string): string {
  const label = hostname.toLowerCase().split(".")[0] ?? "";
  return (
    label
      .replace(/[^a-z0-9-]/g, "-")
      .replace(/^-+/, "")
      .slice(0, 63) || "node"
  );
}

async function checkPrograms(host: Host, architecture: string): Promise<Check[]> {
  const needed = programs.filter((one) => !("architecture" in one) || one.architecture === architecture);
  return Promise.all(
    needed.map(async ({ program, package: packageName, use }) => {
      const path = await host.find(program);
      if (path) return { name: program, ok: true, detail: `${use}: ${path}`, hint: "" };
      return { name: program, ok: false, detail: `${use}: not installed`, hint: `apt-get install ${packageName}` };
    }),
  );
}

function checkKit(buildId: string | null): Check {
  return buildId
    ? { name: "guest kit", ok: true, detail: `boots container images: build ${buildId}`, hint: "" }
    : {
        name: "guest kit",
        ok: false,
        detail: "boots container images: not built",
        hint: "Run npm start in Berth's folder; it builds the kit.",
      };
}

const lowDiskBytes = 2 * 2 ** 30;

function checkDisk(freeBytes: number): Check {
  const detail = `${(freeBytes / 2 ** 30).toFixed(1)} GiB free for data`;
  return freeBytes >= lowDiskBytes
    ? { name: "disk space", ok: true, detail, hint: "" }
    : { name: "disk space", ok: false, detail, hint: "Free some space; berth image rm removes images." };
}
