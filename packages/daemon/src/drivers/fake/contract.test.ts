import { stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { localFiles } from "../../host/files.ts";
import type { Host } from "../../host/host.ts";
import { driverContract } from "../contract.ts";
import { fakeDriver } from "./driver.ts";
import type { Shape } from "./shapes.ts";
import { askBootId } from "./testing/ask-boot-id.ts";

const bootMessage = "the fake guest boots";
const mib = 1024 * 1024;

/** qemu-img for disks that are nothing but a length: a unit test runs no programs. */
const run: Host["run"] = async (_program, args) => {
  const [verb] = args;
  if (verb === "resize") await truncate(args.at(-2) ?? "", Number(args.at(-1)));
  const size = verb === "info" ? (await stat(args.at(-1) ?? "")).size : 0;
  return { stdout: JSON.stringify({ "virtual-size": size }), stderr: "" };
};

function proveContract(shape: Shape, output: string | null): void {
  driverContract(`fake, ${shape}`, { output, memory: shape === "full" }, async () => {
    const world = await scratchDirectory("fake-world");
    const options = {
      host: { files: localFiles, run },
      world,
      location: "n/fake",
      shape,
      knobs: { "boot-message": bootMessage },
    };
    let port = 20_000;
    let files = 0;
    const fresh = (name: string) => join(world, `${name}-${++files}`);
    const nic = { name: "eth0", mac: "52:54:00:00:00:01", network: "user" as const, netdev: "user" };
    const base = { name: "web", cpus: 1, memoryMib: 64, disks: [], kit: null, user: null, launcher: [] };
    return {
      installationId: "b-1",
      driver: () => fakeDriver(options),
      foreign: () => fakeDriver(options),
      inputs: async (owner, forwards) => ({ ...base, owner, nics: [{ ...nic, forwards }] }),
      // Nothing is really bound.
      freePort: async () => port++,
      memory: {
        async inputs(owner, forwards) {
          const path = fresh(owner.instanceId);
          await writeFile(path, "");
          await truncate(path, 64 * mib);
          const disks = [{ name: "root", path, format: "raw" as const, readOnly: false }];
          return { ...base, owner, disks, nics: [{ ...nic, forwards }] };
        },
        folder: async () => fresh("memory"),
        async overlay() {
          const path = fresh("overlay");
          await writeFile(path, "");
          return path;
        },
        // What it stands on is never opened.
        standOn: async () => undefined,
        bootId: (handle) => askBootId(fakeDriver(options), handle),
      },
    };
  });
}

proveContract("full", bootMessage);
proveContract("cloud", null);
proveContract("remote", bootMessage);
