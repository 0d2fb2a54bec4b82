// biome-ignore-all lint/suspicious/noControlCharactersInRegex: they are what is looked for.
import fc from "fast-check";
import { expect, test } from "vitest";
import { age, bytes, mebibytes, plainText, span, TerminalFilter, table } from "./text.ts";

/** What is left of text that arrives in these pieces. */
function filtered(pieces: readonly (string | Buffer)[]): string {
  const filter = new TerminalFilter();
  return pieces.map((piece) => filter.push(Buffer.from(piece as string))).join("") + filter.end();
}

test.each([
  ["a title", "a\u001b]0;evil\u0007b", "ab"],
  ["a title without its end", "a\u001b]0;evil", "a"],
  ["the clipboard", "\u001b]52;c;ZXZpbA==\u001b\\x", "x"],
  ["moving the cursor", "a\u001b[2A\u001b[2Kb", "ab"],
  ["colours stay", "\u001b[1;31mred\u001b[0m", "\u001b[1;31mred\u001b[0m"],
  ["a device string", "\u001bPq#0\u001b\\x", "x"],
  ["one-byte forms", "\u009b2Jx\u009d0;t\u0007y", "xy"],
  ["overwriting a line", "good\rbad!\n", "good\nbad!\n"],
  ["line ends", "a\r\nb\n\tc", "a\nb\n\tc"],
  ["a reset", "a\u001bcb", "ab"],
])("%s", (_, text, left) => {
  expect(filtered([text])).toBe(left);
});

test("it does not matter where the stream is cut", () => {
  const text = "a\u001b]0;evil\u0007b\u001b[31mü\u001b[0m\r\nc\u001b[2Jd";
  fc.assert(
    fc.property(fc.array(fc.nat(Buffer.from(text).length)), (cuts) => {
      const bytes = Buffer.from(text);
      const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
      const pieces = at.slice(1).map((end, index) => bytes.subarray(at[index], end));
      return filtered(pieces) === filtered([text]);
    }),
  );
});

test("nothing that a terminal obeys is ever left but colours", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (pieces) => {
      const left = filtered(pieces.map((piece) => Buffer.from(piece))).replace(/\u001b\[[0-9;]*m/g, "");
      return !/[\x00-\x08\x0b-\x1f\x7f-\x9f]/.test(left);
    }),
  );
});

test("the words of others are plain in tables", () => {
  expect(table(["A", "B"], [["x\u001b[31m", "y\nz"]])).toBe("A  B\nx  y z\n");
  expect(plainText("\u001b[31mred\u001b[0m")).toBe("red");
});

test("amounts and times", () => {
  expect([bytes(0), bytes(999), bytes(12_345_678)]).toEqual(["0 B", "999 B", "12.3 MB"]);
  expect([mebibytes(512), mebibytes(1536), mebibytes(4096)]).toEqual(["512 MiB", "1.5 GiB", "4 GiB"]);
  expect([span(400), span(125_000)]).toEqual(["0.4 s", "2 min 5 s"]);
  const now = Date.parse("2026-01-03T00:00:00Z");
  expect(
    ["2026-01-02T23:59:15Z", "2026-01-02T23:00:00Z", "2026-01-01T00:00:00Z"].map((since) => age(since, now)),
  ).toEqual(["45s", "1h", "2d"]);
});
