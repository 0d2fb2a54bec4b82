import type { StartConfig } from "../image.ts";
import type { Node } from "../node.ts";

/** A node as berthd tells of it, for tests of whoever asks or answers. */
export const exampleNode: Node = {
  id: "n-00000000000000001",
  name: "node1",
  version: "0.1.0",
  architecture: "amd64",
  kernel: "6.1.0",
  cpus: 2,
  memoryMib: 4096,
  diskFreeMib: 10_000,
  accelerator: { kind: "tcg", reason: "no /dev/kvm", probedAt: "2026-11-20T23:00:00.000Z" },
  locations: [
    {
      name: "node1/fake",
      driver: "fake",
      healthy: true,
      reason: "",
      abilities: {
        boots: ["rootfs"],
        console: true,
        channel: true,
        snapshots: false,
        templates: false,
        hotplug: false,
        networks: ["user"],
      },
    },
  ],
  checks: [{ name: "qemu", ok: true, detail: "7.2", hint: "" }],
  startedAt: "2026-11-20T23:00:00.000Z",
};

/** How an image's process is started that says little of it. */
export const exampleStartConfig: StartConfig = {
  entrypoint: [],
  cmd: ["/bin/sh"],
  env: ["PATH=/bin"],
  user: "",
  workingDir: "/",
  exposedPorts: ["80/tcp"],
  stopSignal: "",
  volumes: [],
  labels: {},
};
