/**
 * Begins to save a machine's memory, prints a line once its guest is asked to hold, and waits there for ever: a daemon to be killed. Its one argument is a Job as JSON.
 */
import { qemuDriver } from "../../packages/daemon/src/drivers/qemu/driver.ts";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { userRange } from "../../packages/daemon/src/storage/instance-folder.ts";

export interface SaveJob {
  readonly installationId: string;
  readonly instancesDir: string;
  readonly instanceId: string;
  readonly folder: string;
}

const job: SaveJob = JSON.parse(process.argv[2] ?? "");
const range = process.getuid?.() === 0 ? userRange(job.installationId) : null;
const driver = qemuDriver({
  host: localHost(),
  location: "n/qemu",
  installationId: job.installationId,
  instancesDir: job.instancesDir,
  isOurs: (uid) => (range ? uid >= range.first && uid <= range.last : uid === process.getuid?.()),
  accelerator: async () => ({ kind: "tcg", reason: "for the test", probedAt: 0 }),
});
const handle = await driver.find({ installationId: job.installationId, instanceId: job.instanceId });
if (!handle) throw new Error("The machine is not there");
const asked = async () => {
  console.log("asked to hold");
  await new Promise((resolve) => setTimeout(resolve, 600_000));
};
await driver.saveMemory?.(
  handle,
  { folder: job.folder, use: "shared", switches: [], afterwards: "resume", beforePause: asked },
  new AbortController().signal,
);
