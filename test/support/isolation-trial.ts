/**
 * Boots a guest on user-mode networking and prints, as one line of JSON, what it reached. Run as the user and in the network namespace that is to be tried.
 * Its one argument is a Trial as JSON.
 */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { acceleratorOf } from "../../packages/daemon/src/drivers/qemu/accelerator.ts";
import { qemuDriver } from "../../packages/daemon/src/drivers/qemu/driver.ts";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { choosePorts } from "../../packages/daemon/src/network/ports.ts";
import { userNetwork } from "../../packages/daemon/src/network/user-network.ts";
import { InstanceFolders, userRange } from "../../packages/daemon/src/storage/instance-folder.ts";
import { tinyGuest } from "./tiny-guest.ts";

export interface Trial {
  readonly folder: string;
  readonly installationId: string;
  readonly unprotected: boolean;
  /** IPv4 addresses that the guest connects to, at `port`. */
  readonly targets: readonly string[];
  readonly port: number;
}

export interface TrialResult {
  /** The network's own opinion of itself, before. */
  readonly check: string;
  readonly reached: readonly string[];
  readonly refused: readonly string[];
  /** What the published port answered. */
  readonly published: string;
}

const trial: Trial = JSON.parse(process.argv[2] ?? "");
const host = localHost();
const root = process.getuid?.() === 0;
const range = root ? userRange(trial.installationId) : null;
const instancesDir = join(trial.folder, "instances");
const isOurs = (uid: number) => (range ? uid >= range.first && uid <= range.last : uid === process.getuid?.());

const script = `
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
route add default gw 10.0.2.2
nc -ll -p 80 -e echo "the guest" &
reaches() { for time in 1 2 3; do echo | timeout 8 nc -w 5 "$1" ${trial.port} | grep -q "the host" && return 0; done; return 1; }
for address in ${trial.targets.join(" ")}; do
  if reaches "$address"; then say "reached $address"; else say "refused $address"; fi
done
say tried
wait
`;

await using resources = new AsyncDisposableStack();
const server = createServer((socket) => socket.on("error", () => {}).end("the host\n"));
server.listen(trial.port, "0.0.0.0");
await once(server, "listening");
resources.defer(() => void server.close());

const network = userNetwork({ host, ...trial, folder: join(trial.folder, "network"), uids: range });
resources.defer(() => network.purge());
const { reason: check } = await network.check();
await network.prepare();

const owner = { installationId: trial.installationId, instanceId: "i-00000000000000001" };
const folders = new InstanceFolders({ host, root: instancesDir, range });
const { user } = await folders.create(owner.instanceId);
resources.defer(() => folders.remove(owner.instanceId));
const kit = await tinyGuest(host, trial.folder, script);
const forwards = await choosePorts(
  host,
  [{ hostAddress: "127.0.0.1", hostPort: 0, guestPort: 80, protocol: "tcp" }],
  [],
);
const attachment = await network.attach([{ name: "net", mac: "52:54:00:00:00:01", network: "user", forwards }]);
const driver = qemuDriver({
  host,
  location: "n/qemu",
  installationId: trial.installationId,
  instancesDir,
  isOurs,
  accelerator: async () => ({ kind: (await acceleratorOf("tcg")).kind, reason: "", probedAt: 0 }),
});
const handle = await driver.create({
  owner,
  name: "trial",
  cpus: 1,
  memoryMib: 192,
  disks: [],
  kit,
  user,
  ...attachment,
});
resources.defer(() => driver.destroy(handle));
await driver.start(handle, AbortSignal.timeout(60_000));

const lines = await untilTried();
console.log(
  JSON.stringify({
    check,
    reached: wordsAfter(lines, "reached "),
    refused: wordsAfter(lines, "refused "),
    published: await askPublished(),
  } satisfies TrialResult),
);

async function untilTried(): Promise<readonly string[]> {
  const changed = host.files.watch(join(instancesDir, owner.instanceId, "vm/log/control"), AbortSignal.timeout(80_000));
  for await (const _ of changed) {
    const said = (await driver.readControlLog?.(handle)) ?? [];
    if (said.includes("tried")) return said;
  }
  const said = await driver.readControlLog?.(handle);
  throw new Error(`the guest did not finish: ${said?.join(", ")}`);
}

async function askPublished(): Promise<string> {
  const [forward] = forwards;
  const socket = connect({ host: "127.0.0.1", port: forward?.hostPort ?? 0 });
  socket.setTimeout(10_000, () => socket.destroy());
  return (await text(socket).catch((error: Error) => error.message)).trim();
}

function wordsAfter(all: readonly string[], word: string): string[] {
  return all.filter((line) => line.startsWith(word)).map((line) => line.slice(word.length));
}
