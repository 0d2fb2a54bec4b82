import { afterAll } from "vitest";
import { removeTablesOf } from "./firewall-tables.ts";
import { scratchFolders } from "./scratch.ts";

// A setup file of the tests that run programs. It runs after the test file's own clean-up and before remove-scratch.ts, whose hook comes first and so runs last.
afterAll(() => {
  for (const folder of scratchFolders()) removeTablesOf(folder);
});
