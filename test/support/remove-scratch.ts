import { afterAll } from "vitest";
import { removeScratchDirectories } from "./scratch.ts";

// A setup file, so it is the first hook of each test file and runs last: when its daemons and machines are gone.
afterAll(removeScratchDirectories);
