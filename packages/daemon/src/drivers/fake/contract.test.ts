import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { localFiles } from "../../host/files.ts";
import { driverContract } from "../contract.ts";
import { fakeDriver } from "./driver.ts";
import type { Shape } from "./shapes.ts";

const bootMessage = "the fake guest boots";

function proveContract(shape: Shape, output: string | null): void {
  driverContract(`fake, ${shape}`, { output }, async () => {
    const world = await scratchDirectory("fake-world");
    const options = {
      host: { files: localFiles },
      world,
      location: "n/fake",
      shape,
      knobs: { "boot-message": bootMessage },
    };
    let port = 20_000;
    return {
      installationId: "b-1",
      driver: () => fakeDriver(options),
      foreign: () => fakeDriver(options),
      async inputs(owner, forwards) {
        const nics = [{ name: "eth0", mac: "52:54:00:00:00:01", network: "user" as const, forwards, netdev: "user" }];
        return { owner, name: "web", cpus: 1, memoryMib: 64, disks: [], nics, kit: null, user: null, launcher: [] };
      },
      // Nothing is really bound.
      freePort: async () => port++,
    };
  });
}

proveContract("full", bootMessage);
proveContract("cloud", null);
proveContract("remote", bootMessage);
