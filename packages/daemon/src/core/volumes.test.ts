import { describe, expect, it } from "vitest";
import { hasVolumes, volumePaths, withVolumes } from "./volumes.ts";

const root = { name: "root", sizeMib: 2048 };

describe("the volumes of an image", () => {
  it("are told with their paths as the kernel reads them, each once, parents first", () => {
    const volumes = ["/var/lib/db/", "/data/../data//x/.", "/data", "cache", "/", "/..", "/data/x"];
    expect(volumePaths({ volumes })).toEqual(["/cache", "/data", "/data/x", "/var/lib/db"]);
  });

  it("get a disk as large as the root disk, once, and only where there are any", () => {
    const disks = withVolumes([root], { volumes: ["/data"] });
    expect(disks).toEqual([root, { name: "volumes", sizeMib: 2048 }]);
    expect(withVolumes(disks, { volumes: ["/data", "/more"] })).toEqual(disks);
    expect(withVolumes([root], { volumes: ["/"] })).toEqual([root]);
    expect(withVolumes([root], null)).toEqual([root]);
    expect([hasVolumes(disks), hasVolumes([root])]).toEqual([true, false]);
  });
});
