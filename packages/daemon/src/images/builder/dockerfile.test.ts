import { describe, expect, test } from "vitest";
import { parseDockerfile, replaceImages } from "./dockerfile.ts";

describe("parseDockerfile", () => {
  test("names what must be there, and no stage", () => {
    const text = [
      "# syntax=docker/dockerfile:1",
      "ARG VERSION=1.27",
      'ARG BASE="debian"',
      "FROM nginx:$".concat("{VERSION} AS web"),
      "RUN true",
      "FROM --platform=linux/amd64 $BASE",
      "COPY --from=web /a /a",
      "COPY --from=0 /b /b",
      "COPY --from=busybox:musl /c /c",
      "FROM scratch",
    ].join("\n");
    const parsed = parseDockerfile(text, { VERSION: "1.28" });
    expect(parsed.images.map(({ reference, line }) => [reference, line])).toEqual([
      ["nginx:1.28", 4],
      ["debian", 6],
      ["busybox:musl", 9],
    ]);
    expect(parsed.lines).toEqual([[4, 5], [6, 7, 8, 9], [10]]);
    const replaced = replaceImages(parsed, ({ reference }) => `<${reference}>`).split("\n");
    expect(replaced[3]).toBe("FROM <nginx:1.28> AS web");
    expect(replaced[5]).toBe("FROM --platform=linux/amd64 <debian>");
    expect(replaced[8]).toBe("COPY --from=<busybox:musl> /c /c");
  });

  test.each([
    ["RUN true", 1, /before the first FROM/],
    ["FROM scratch\nRUNN true", 2, /RUNN is not an instruction/],
    ["FROM scratch\n\nCOPY", 3, /needs an argument/],
    ["FROM $NOTHING", 1, /has no value/],
    ["", 1, /no FROM/],
    ["# only a comment", 1, /no FROM/],
  ])("%j fails at line %d", (text, line, words) => {
    expect(() => parseDockerfile(text, {})).toThrow(new RegExp(`line ${line}:`));
    expect(() => parseDockerfile(text, {})).toThrow(words);
  });
});
