import { expect, test } from "vitest";
import { anchorsOf, linksOf, promisesOf } from "./markdown.ts";

test("links and anchors are those of the prose, not of examples", () => {
  const page =
    "# The two commands\n\nSee [this](docs/a.md#b).\n\n```\n# no heading [no](link)\n```\n## `berthd`, on disk\n";
  expect(linksOf(page)).toEqual(["docs/a.md#b"]);
  expect(anchorsOf(page)).toEqual(["the-two-commands", "berthd-on-disk"]);
});

test("a promise carries the tests that prove it", () => {
  const page =
    "## Speed\n\n- It is fast.\n  `bench/fast.ts`\n- It is right.\n  `a.test.ts` › is right\n  `b.test.ts` › is right too\n- Unproved.\n\nWords.\n";
  expect(promisesOf(page)).toEqual([
    { text: "It is fast.", proofs: [{ file: "bench/fast.ts", test: undefined }] },
    {
      text: "It is right.",
      proofs: [
        { file: "a.test.ts", test: "is right" },
        { file: "b.test.ts", test: "is right too" },
      ],
    },
    { text: "Unproved.", proofs: [] },
  ]);
});
