import { expect, it } from "vitest";
import { writeCpio } from "./cpio.ts";
import { parseKernelPackage, parseLibraries } from "./kit-inputs.ts";

it("reads which kernel a metapackage stands for", () => {
  const shown =
    "Package: linux-image-cloud-amd64\nVersion: 6.1.1-2\nDepends: linux-image-6.1.0-5-cloud-amd64 (= 6.1.1-2)\n";
  expect(parseKernelPackage(shown)).toEqual({ package: "linux-image-6.1.0-5-cloud-amd64", version: "6.1.1-2" });
  expect(parseKernelPackage("")).toBeUndefined();
});

it("reads the libraries and the loader out of ldd's words", () => {
  const printed =
    "\tlinux-vdso.so.1 (0x00007f)\n\tlibz.so.1 => /lib/libz.so.1 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
  expect(parseLibraries(printed)).toEqual(["/lib/libz.so.1", "/lib64/ld-linux-x86-64.so.2"]);
});

it("writes an archive whose parts all begin at multiples of four, the same each time", () => {
  const entries = [
    { type: "file", path: "abc", mode: 0o644, content: Buffer.from("hello") },
    { type: "device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
  ] as const;
  const archive = writeCpio(entries);
  expect(archive.length % 4).toBe(0);
  expect(archive.toString("latin1").split("070701")).toHaveLength(4);
  expect(archive).toEqual(writeCpio(entries));
});
