import { createHash } from "node:crypto";
import { exampleStartConfig } from "../../../../api/src/testing/examples.ts";
import { type TarItem, writeTar } from "../../core/testing/tar-writer.ts";
import type { ManifestDraft } from "../manifest.ts";

/** What an instance that listens on port 80 and has these disks says of itself. */
export function draftOf(...disks: readonly string[]): ManifestDraft {
  return {
    createdAt: "2026-11-20T23:00:00.000Z",
    image: {
      reference: "localhost/web:latest",
      contentDigest: `sha256:${"1".repeat(64)}`,
      os: "linux",
      architecture: "amd64",
      startConfig: { ...exampleStartConfig, cmd: ["/bin/web"] },
    },
    environment: "included",
    instance: {
      name: "web",
      labels: { team: "a" },
      spec: {
        cpus: 1,
        memoryMib: 128,
        disks: disks.map((name) => ({ name, sizeMib: 64 })),
        interfaces: [{ name: "eth0", network: "user" }],
        ports: [{ hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" }],
        env: { MODE: "fast" },
        entrypoint: null,
        command: null,
        tty: false,
        restart: "no",
        stopTimeoutMs: 10_000,
        warm: "auto",
        autosuspend: null,
        snapshots: null,
        power: "stopped",
        restartGeneration: 0,
      },
    },
  };
}

const sum = (content: string | Buffer) =>
  createHash("sha256")
    .update(content as string, "latin1")
    .digest("hex");

/** The entries of a sound archive of one disk, byte by byte, for changing one thing about it. */
export function soundItems(disk: Buffer, manifest: object = {}): readonly [TarItem, TarItem, TarItem] {
  const disks = [{ name: "root", sizeBytes: 64 * 2 ** 20, fileBytes: disk.length, sha256: sum(disk) }];
  const text = JSON.stringify({ format: "berth-instance", version: 1, disks, ...draftOf("root"), ...manifest });
  return [
    { path: "manifest.json", content: text },
    { path: "disks/root.qcow2", content: disk },
    { path: "SHA256SUMS", content: `${sum(text)}  manifest.json\n${sum(disk)}  disks/root.qcow2\n` },
  ];
}

/** An archive with these entries. */
export function archiveOf(items: readonly TarItem[]): Buffer {
  return writeTar(items);
}
