import { array, assert, property, string, uint8Array } from "fast-check";
import { expect, it } from "vitest";
import { LineSplitter } from "./line-splitter.ts";

/** Cuts bytes at the given distances. */
function cut(bytes: Uint8Array, lengths: number[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const length of lengths) {
    parts.push(bytes.subarray(at, at + length));
    at += length;
  }
  return [...parts, bytes.subarray(at)];
}

it("finds the same lines wherever the stream is cut", () => {
  const lengths = array(string().map((text) => text.length % 7));
  void assert(
    property(array(string()), lengths, (lines, cuts) => {
      const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
      const expected = bytes
        .toString()
        .split("\n")
        .map((line) => line.trim())
        .filter(Boolean);
      const splitter = new LineSplitter(1000);
      expect(cut(bytes, cuts).flatMap((part) => splitter.push(part))).toEqual(expected);
    }),
  );
});

it("never gives a line longer than the limit, whatever comes", () => {
  void assert(
    property(array(uint8Array()), (parts) => {
      const splitter = new LineSplitter(8);
      for (const line of parts.flatMap((part) => splitter.push(part))) {
        expect([...line].length).toBeLessThanOrEqual(8);
      }
    }),
  );
});

it("leaves out a line that is too long and goes on with the next", () => {
  const splitter = new LineSplitter(4);
  expect(splitter.push(Buffer.from("12345"))).toEqual([]);
  expect(splitter.push(Buffer.from("678\nabcd\n"))).toEqual(["abcd"]);
});
