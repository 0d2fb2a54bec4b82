import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { askableGuest, askGuest } from "../../../../../test/support/asking-guest.ts";
import { freePort } from "../../../../../test/support/ports.ts";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import type { PortForward } from "../../core/descriptions.ts";
import { localHost } from "../../host/local.ts";
import { userNetdev } from "../../network/netdev.ts";
import { InstanceFolders, userRange } from "../../storage/instance-folder.ts";
import { createOverlay } from "../../storage/qcow2.ts";
import { driverContract } from "../contract.ts";
import type { OwnerMark } from "../driver.ts";
import { qemuDriver } from "./driver.ts";

const host = localHost();
const output = "the guest speaks";

driverContract("qemu", { output, memory: true }, async () => {
  const installationId = `contract-${process.pid}`;
  const range = process.getuid?.() === 0 ? userRange(installationId) : null;
  const folder = await scratchDirectory("qemu");
  const instancesDir = join(folder, "i");
  await mkdir(instancesDir, { mode: 0o711 });
  const kit = await askableGuest(host, folder, output);
  const artifact = join(folder, "artifact.raw");
  await host.files.makeSparse(artifact, 32 * 1024 * 1024, { mode: 0o644 });
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
  const inputsOf = async (owner: OwnerMark, forwards: readonly PortForward[]) => {
    const { user } = await folders.create(owner.instanceId);
    const nics = [
      { name: "net", mac: "52:54:00:00:00:01", network: "user" as const, forwards, netdev: userNetdev(forwards, []) },
    ];
    return { owner, name: "web", cpus: 1, memoryMib: 128, disks: [], nics, kit, user, launcher: [] };
  };
  let made = 0;
  return {
    installationId,
    driver: () => driverOf(installationId),
    foreign: () => driverOf(`${installationId}-other`),
    freePort,
    inputs: inputsOf,
    memory: {
      async inputs(owner, forwards) {
        const { vmPath, user } = await folders.create(owner.instanceId);
        const path = join(vmPath, "root.qcow2");
        const root = await createOverlay(host, { name: "root", path, backingPath: artifact, sizeMib: 64, user });
        return { ...(await inputsOf(owner, forwards)), disks: [root] };
      },
      folder: async () => join(folder, `memory-${++made}`),
      async overlay(owner, disk) {
        const { vmPath, user } = await folders.create(owner.instanceId);
        const [path, overlay] = [join(vmPath, `${disk}.qcow2`), join(vmPath, `${disk}-${++made}.qcow2`)];
        const args = ["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", path, overlay, "64M"];
        await host.run("qemu-img", args, { ...user });
        return overlay;
      },
      async standOn(owner, path) {
        const { user } = await folders.create(owner.instanceId);
        await host.run("qemu-img", ["info", "-f", "qcow2", path], { ...user });
      },
      bootId: (handle) => askGuest(driverOf(installationId), handle, "cat /proc/sys/kernel/random/boot_id"),
    },
  };
});
