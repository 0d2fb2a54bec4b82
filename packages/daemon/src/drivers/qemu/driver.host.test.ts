import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../../../../test/support/ports.ts";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { tinyGuest } from "../../../../../test/support/tiny-guest.ts";
import { localHost } from "../../host/local.ts";
import { userNetdev } from "../../network/netdev.ts";
import { InstanceFolders, userRange } from "../../storage/instance-folder.ts";
import { driverContract } from "../contract.ts";
import { qemuDriver } from "./driver.ts";

const host = localHost();
const output = "the guest speaks";

driverContract("qemu", { output }, async () => {
  const installationId = `contract-${process.pid}`;
  const range = process.getuid?.() === 0 ? userRange(installationId) : null;
  const folder = await scratchDirectory("qemu");
  const instancesDir = join(folder, "i");
  await mkdir(instancesDir, { mode: 0o711 });
  const kit = await tinyGuest(host, folder, `echo "${output}"\nwhile true; do sleep 1000; done\n`);
  const folders = new InstanceFolders({ host, root: instancesDir, range });
  const driverOf = (installation: string) =>
    qemuDriver({
      host,
      location: "n/qemu",
      installationId: installation,
      instancesDir,
      isOurs: (uid) => (range ? uid >= range.first && uid <= range.last : uid === process.getuid?.()),
      accelerator: async () => ({ kind: "tcg", reason: "for the test", probedAt: 0 }),
    });
  return {
    installationId,
    driver: () => driverOf(installationId),
    foreign: () => driverOf(`${installationId}-other`),
    freePort,
    async inputs(owner, forwards) {
      const { user } = await folders.create(owner.instanceId);
      const nics = [
        { name: "net", mac: "52:54:00:00:00:01", network: "user" as const, forwards, netdev: userNetdev(forwards, []) },
      ];
      return { owner, name: "web", cpus: 1, memoryMib: 128, disks: [], nics, kit, user, launcher: [] };
    },
  };
});
