import { setTimeout as delay } from "node:timers/promises";
import { afterAll, type RunnerTask } from "vitest";
import { type FoundProcess, processesOf } from "./processes.ts";
import { scratchFolders } from "./scratch.ts";

/** Whether it failed, or anything in it. */
function hasFailed(task: RunnerTask): boolean {
  if (task.result?.state === "fail") return true;
  return task.type === "suite" && task.tasks.some(hasFailed);
}

/**
 * A setup file of the tests that run programs. A test that fails does not come to its last lines, and machines outlive their berthd: what runs in the file's folders is ended, so
 * that the run tells of the failure alone. After a file whose tests have passed nothing is ended here: what it left fails the run. It runs before
 * remove-rules.ts and remove-scratch.ts.
 */
// biome-ignore lint/correctness/noEmptyPattern: Vitest wants the first argument taken apart, and only then gives the second.
afterAll(async ({}: object, file) => {
  if (!hasFailed(file)) return;
  // A berthd that is just being ended may have started something meanwhile.
  for (let left = leftRunning(); left.length > 0; left = leftRunning()) {
    for (const { pid } of left) end(pid);
    await delay(20);
  }
});

function leftRunning(): FoundProcess[] {
  return scratchFolders().flatMap((folder) => processesOf(folder));
}

function end(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
