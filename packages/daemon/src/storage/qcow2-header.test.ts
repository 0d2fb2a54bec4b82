import { expect, test } from "vitest";
import { refuseQcow2 } from "./qcow2-header.ts";

const size = 64 * 2 ** 20;

/** The header of a disk as qemu-img makes it, with one number changed. */
function header(change: (view: DataView) => void = () => undefined): Uint8Array {
  const view = new DataView(new ArrayBuffer(1024));
  view.setUint32(0, 0x514649fb);
  view.setUint32(4, 3);
  view.setUint32(20, 16);
  view.setBigUint64(24, BigInt(size));
  view.setBigUint64(72, 8n);
  view.setUint32(96, 4);
  view.setUint32(100, 112);
  view.setUint8(104, 1);
  view.setUint32(112, 0x6803f857);
  view.setUint32(116, 384);
  change(view);
  return new Uint8Array(view.buffer);
}

test("a disk that stands on its own is taken", () => {
  expect(refuseQcow2(header(), size)).toBeUndefined();
  expect(
    refuseQcow2(
      header((view) => view.setBigUint64(72, 0n)),
      size,
    ),
  ).toBeUndefined();
});

test.each<[string, (view: DataView) => void, RegExp]>([
  ["something else", (view) => view.setUint32(0, 0x7f454c46), /no qcow2/],
  ["version 2", (view) => view.setUint32(4, 2), /version 2/],
  ["a backing file", (view) => view.setBigUint64(8, 600n), /a backing file/],
  ["a backing file's name alone", (view) => view.setUint32(16, 11), /a backing file/],
  ["clusters of no size", (view) => view.setUint32(20, 0), /clusters/],
  ["clusters beyond all sizes", (view) => view.setUint32(20, 63), /clusters/],
  ["another size", (view) => view.setBigUint64(24, 2n ** 60n), /1152921504606846976 bytes for its guest, and 67108864/],
  ["encryption", (view) => view.setUint32(32, 2), /encrypted/],
  ["snapshots inside", (view) => view.setUint32(60, 1), /snapshots/],
  ["a data file", (view) => view.setBigUint64(72, 4n), /features/],
  ["extended L2 entries", (view) => view.setBigUint64(72, 16n), /features/],
  ["a mark that it is corrupt", (view) => view.setBigUint64(72, 2n), /features/],
  ["compatible features", (view) => view.setBigUint64(80, 1n), /features/],
  ["bitmaps", (view) => view.setBigUint64(88, 1n), /features/],
  ["the name of a backing format", (view) => view.setUint32(112, 0xe2792aca), /has a backing file/],
  ["the name of a data file", (view) => view.setUint32(112, 0x44415441), /has a data file/],
  ["an encryption header", (view) => view.setUint32(112, 0x0537be77), /has encryption/],
  ["an extension nobody knows", (view) => view.setUint32(112, 1), /has an extension/],
  ["a second extension", (view) => view.setUint32(504, 0x44415441), /has a data file/],
  ["extensions without end", (view) => view.setUint32(116, 2 ** 31), /without end/],
  ["extensions before the header", (view) => view.setUint32(100, 0xffffffff), /without end/],
])("one with %s is refused", (_what, change, words) => {
  expect(refuseQcow2(header(change), size)).toMatch(words);
});

test("a beginning of one is refused", () => {
  for (const length of [0, 3, 111]) expect(refuseQcow2(header().subarray(0, length), size)).toMatch(/no qcow2/);
});
