import { defineConfig } from "vitest/config";

const hostTests = "**/*.host.test.ts";
const longTests = "**/*.long.test.ts";
const setUpRun = ["./test/support/run-folder.ts", "./test/support/stop-postgres.ts"];
const removeScratch = "./test/support/remove-scratch.ts";
const removeRules = "./test/support/remove-rules.ts";
const endProcesses = "./test/support/end-processes.ts";

/** Where unit and host tests live: beside what they test, tools and helpers included. */
const besideCode = (ending: string) => [`packages/*/src/**/${ending}`, `{tools,bench,test/support}/**/${ending}`];

/** Time limits, here and in `eventually()`, only keep a failing test from hanging: they are far longer than the slowest machine takes. */
const poll = { timeout: 30_000, interval: 50 };

const systemTests = {
  pool: "forks",
  setupFiles: [removeScratch, removeRules, endProcesses],
  expect: { poll },
  maxWorkers: 2,
  globalSetup: setUpRun,
  testTimeout: 300_000,
  hookTimeout: 300_000,
} as const;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          expect: { poll },
          include: besideCode("*.test.ts"),
          exclude: [hostTests, "**/node_modules/**"],
          pool: "threads",
          isolate: false,
          setupFiles: ["./test/support/no-programs.ts", removeScratch],
          globalSetup: setUpRun,
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "host",
          expect: { poll },
          include: besideCode("*.host.test.ts"),
          exclude: ["**/node_modules/**"],
          pool: "forks",
          setupFiles: [removeScratch, removeRules, endProcesses],
          maxWorkers: 2,
          globalSetup: setUpRun,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: "system",
          include: ["test/**/*.test.ts"],
          exclude: ["test/support/**", longTests, "**/node_modules/**"],
          ...systemTests,
          sequence: { groupOrder: 2 },
        },
      },
      { test: { name: "long", include: [`test/${longTests}`], ...systemTests } },
    ],
  },
});
