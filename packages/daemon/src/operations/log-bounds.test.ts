import fc from "fast-check";
import { expect, test } from "vitest";
import { cleanLine, LogBounds } from "./log-bounds.ts";

test("keeps a beginning and an end within their bounds, and goes on so after a restart", () => {
  const limits = { head: { lines: 5, bytes: 40 }, tail: { lines: 7, bytes: 60 } };
  const lines = fc.array(fc.string({ maxLength: 20, unit: "grapheme" }), { maxLength: 60 });
  fc.assert(
    fc.property(lines, fc.nat(60), (all, restartAt) => {
      let bounds = new LogBounds(limits);
      let kept: { seq: number; line: string }[] = [];
      all.forEach((line, index) => {
        if (index === restartAt) {
          bounds = new LogBounds(limits);
          for (const one of kept) bounds.add(one.line, one.seq);
        }
        kept.push({ seq: bounds.add(line), line });
        const { after, to } = bounds.leftOut;
        kept = kept.filter(({ seq }) => seq <= after || seq > to);
      });
      expect(kept.every(({ seq, line }) => all[seq - 1] === line)).toBe(true);
      expect(kept.at(-1)?.seq ?? 0).toBe(all.length);
      expect(kept.length).toBeLessThanOrEqual(limits.head.lines + limits.tail.lines);
      const total = kept.reduce((sum, { line }) => sum + Buffer.byteLength(line), 0);
      const longest = Math.max(0, ...all.map((line) => Buffer.byteLength(line)));
      expect(total).toBeLessThanOrEqual(limits.head.bytes + Math.max(limits.tail.bytes, longest));
    }),
  );
});

test("a line does nothing to a terminal and is not too long", () => {
  expect(cleanLine("a\tb\u001b[31mc\u001b[0m\u0007\u0000\u202e d")).toBe("a\tbc d");
  expect(cleanLine("x".repeat(5000))).toHaveLength(4001);
});
