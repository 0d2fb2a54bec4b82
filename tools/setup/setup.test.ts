import { expect, test } from "vitest";
import { isInstalled } from "./dependencies.mjs";
import { explain, missingPackages } from "./host-packages.mjs";
import { hostPackages } from "./packages.mjs";

const lock = {
  packages: {
    "": { version: "0.1.0" },
    "packages/api": { version: "0.1.0" },
    "node_modules/@berth/api": { link: true },
    "node_modules/zod": { version: "4.6.7", integrity: "sha512-a" },
    "node_modules/for-another-platform": { version: "1.0.0", integrity: "sha512-b", optional: true },
  },
};

test("node_modules is up to date when npm's own record of it has the lock file's versions", () => {
  const record = {
    "node_modules/@berth/api": { link: true },
    "node_modules/zod": { version: "4.6.7", integrity: "sha512-a" },
  };
  expect(isInstalled(lock, { packages: record })).toBe(true);
  expect(isInstalled(lock, { packages: { ...record, "node_modules/zod": { version: "4.6.6" } } })).toBe(false);
  expect(isInstalled(lock, { packages: { "node_modules/@berth/api": { link: true } } })).toBe(false);
  expect(isInstalled(lock, undefined)).toBe(false);
});

test("a package is missing when something it brings is not there, and only for the commands that need it", () => {
  const has = (item: string) => item !== "docker-registry" && item !== "qemu-img";
  expect(missingPackages("test", has).map((one) => one.name)).toEqual(["qemu-utils", "docker-registry"]);
  expect(missingPackages("start", has).map((one) => one.name)).toEqual(["qemu-utils"]);
});

test("what cannot be installed is named, with the reason and the command to type", () => {
  const text = explain(
    "start",
    missingPackages("start", (item) => item !== "qemu-img"),
    "There is no sudo.",
  );
  expect(text).toContain("qemu-utils  makes, grows and checks disks");
  expect(text).toContain("There is no sudo.");
  expect(text).toContain("apt-get install --no-install-recommends qemu-utils");
});

test("every package says why it is there, once", () => {
  expect(new Set(hostPackages.map((one) => one.name)).size).toBe(hostPackages.length);
  for (const one of hostPackages) expect(one.why.length).toBeGreaterThan(10);
});
