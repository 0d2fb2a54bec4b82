import { join } from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "./parts.ts";
import { addTallies, countReport, describeTally } from "./tally.ts";

const file = (status: string, ...tests: readonly string[]) => ({
  name: join(repositoryRoot, "test/a.test.ts"),
  status,
  message: status === "failed" ? "it does not load" : "",
  assertionResults: tests.map((one) => ({
    status: one,
    fullName: `is ${one}`,
    failureMessages: one === "failed" ? ["AssertionError: no\nat a line"] : [],
  })),
});

test("each test counts by how it ended", () => {
  const report = { testResults: [file("passed", "passed", "skipped"), file("failed", "failed", "passed", "todo")] };
  expect(countReport(report)).toEqual({
    passed: 2,
    failed: 1,
    skipped: 2,
    failures: ["test/a.test.ts › is failed\n    AssertionError: no\n    at a line"],
  });
});

test("a file that could not be loaded, or whose clean-up failed, is a failure", () => {
  expect(countReport({ testResults: [file("failed"), file("failed", "passed")] })).toEqual({
    passed: 1,
    failed: 2,
    skipped: 0,
    failures: Array(2).fill("test/a.test.ts\n    it does not load"),
  });
});

test("the closing line is plain", () => {
  expect(describeTally({ passed: 12, failed: 0, skipped: 0 })).toBe("12 passed, 0 failed");
  expect(
    describeTally(
      addTallies([
        { passed: 1, failed: 2, skipped: 3, failures: [] },
        { passed: 1, failed: 0, skipped: 0, failures: [] },
      ]),
    ),
  ).toBe("2 passed, 2 failed, 3 skipped");
});
