/**
 * Saves a machine's memory and has others go on from it, and prints what came of that as one line of JSON. Run as the user that berthd is to be tried as. Its one argument is
 * a folder of that user's.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { MemorySource } from "../../packages/daemon/src/drivers/driver.ts";
import { qemuDriver } from "../../packages/daemon/src/drivers/qemu/driver.ts";
import { findMarked } from "../../packages/daemon/src/drivers/qemu/machine.ts";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { choosePorts } from "../../packages/daemon/src/network/ports.ts";
import { userNetwork } from "../../packages/daemon/src/network/user-network.ts";
import { InstanceFolders } from "../../packages/daemon/src/storage/instance-folder.ts";
import { createOverlay } from "../../packages/daemon/src/storage/qcow2.ts";
import { askableGuest, askGuest } from "./asking-guest.ts";

export interface MemoryTrialResult {
  /** What the guest's boot was called in the machine, and in those that went on from it. */
  readonly boots: Readonly<Record<"parent" | "shared" | "own", string>>;
  /** The network interfaces of the sibling's QEMU. */
  readonly siblingInterfaces: readonly string[];
  /** The code of what came of another set of ports. */
  readonly publish: string;
  readonly openConnections: number;
}

const folder = process.argv[2] ?? "";
const installationId = `trial-${process.pid}`;
const host = localHost();
const instancesDir = join(folder, "i");
const isOurs = (uid: number) => uid === process.getuid?.();
const signal = AbortSignal.timeout(100_000);

await using resources = new AsyncDisposableStack();
await mkdir(instancesDir, { recursive: true });
const network = userNetwork({ host, installationId, folder: join(folder, "network"), uids: null });
resources.defer(() => network.purge());
await network.prepare();
const driver = qemuDriver({
  ...{ host, location: "n/qemu", installationId, instancesDir, isOurs },
  accelerator: async () => ({ kind: "tcg", reason: "for the test", probedAt: 0 }),
});
const { saveMemory, publish, openConnections } = driver;
if (!saveMemory || !publish || !openConnections) throw new Error("The driver saves no memory");
const folders = new InstanceFolders({ host, root: instancesDir, range: null });
const kit = await askableGuest(host, folder);
const artifact = join(folder, "artifact.raw");
await host.files.makeSparse(artifact, 1024 ** 2, { mode: 0o644 });

let count = 0;
async function make() {
  const owner = { installationId, instanceId: `i-${String(++count).padStart(17, "0")}` };
  const { user, vmPath } = await folders.create(owner.instanceId);
  const path = join(vmPath, "root.qcow2");
  const disk = await createOverlay(host, { name: "root", path, backingPath: artifact, sizeMib: 16, user });
  const wish = { hostAddress: "127.0.0.1", hostPort: 0, guestPort: 80, protocol: "tcp" as const };
  const forwards = await choosePorts(host, [wish], []);
  const attachment = await network.attach([{ name: "net", mac: "52:54:00:00:00:01", network: "user", forwards }]);
  const inputs = { owner, name: "trial", cpus: 1, memoryMib: 128, disks: [disk], kit, user, ...attachment };
  const handle = await driver.create(inputs);
  resources.defer(() => driver.destroy(handle));
  return { handle, forwards };
}

const bootOf = async (memory?: MemorySource) => {
  const { handle, forwards } = await make();
  await driver.start(handle, signal, memory ? { memory } : {});
  return { handle, forwards, boot: await askGuest(driver, handle, "cat /proc/sys/kernel/random/boot_id") };
};

const parent = await bootOf();
let siblingInterfaces: string[] = [];
const save = (name: string, use: MemorySource["use"]) => {
  const memory = { folder: join(folder, name), use };
  const beforePause = async () => {
    const sibling = (await findMarked(host, isOurs)).find(({ isSibling }) => isSibling);
    const lines = (await readFile(`/proc/${sibling?.process.pid}/net/dev`, "utf8")).split("\n");
    siblingInterfaces = lines.flatMap((line) => /^\s*(\S+):/.exec(line)?.[1] ?? []);
  };
  const request = { ...memory, switches: [], afterwards: "resume", beforePause } as const;
  return saveMemory(parent.handle, request, signal).then(() => memory);
};
const shared = await bootOf(await save("shared", "shared"));
const own = await bootOf(await save("own", "own"));
const refused = await publish(parent.handle, parent.forwards).then(
  () => "",
  (error: { code?: string }) => error.code ?? String(error),
);
console.log(
  JSON.stringify({
    boots: { parent: parent.boot, shared: shared.boot, own: own.boot },
    siblingInterfaces,
    publish: refused,
    openConnections: await openConnections(shared.handle),
  } satisfies MemoryTrialResult),
);
