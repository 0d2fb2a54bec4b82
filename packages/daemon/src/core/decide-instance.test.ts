import { BerthError } from "@berth/api";
import { describe, expect, it } from "vitest";
import { decideInstance, type InstanceStepName, type InstanceWish, type ObservedInstance } from "./decide-instance.ts";

const healthy: ObservedInstance = {
  image: { state: "ready" },
  template: { state: "unneeded" },
  artifact: true,
  claimed: false,
  disksPlanned: true,
  disks: true,
  folder: true,
  portsReserved: true,
  made: true,
  power: "running",
  powerReason: "",
  startedAt: null,
  memoryBytes: null,
  portsHeld: false,
  runGeneration: 0,
  exit: null,
  failure: null,
  ready: true,
  notReadyReason: "",
  heard: true,
  guestVisible: true,
  publishes: false,
};
const nothing: ObservedInstance = {
  ...healthy,
  artifact: false,
  disks: false,
  folder: false,
  portsReserved: false,
  made: false,
  power: "stopped",
  runGeneration: null,
  ready: false,
};
const off: ObservedInstance = { ...healthy, power: "stopped", ready: false };
const asleep: ObservedInstance = { ...off, memoryBytes: 4096, portsHeld: true };
const run: InstanceWish = {
  present: true,
  power: "running",
  isNew: false,
  restartGeneration: 0,
  force: false,
  replaceDisks: null,
  after: [],
  cold: false,
};
const missing: ObservedInstance["template"] = { state: "missing" };
const failed: ObservedInstance["template"] = { state: "failed", error: new BerthError("template_failed", "no") };
const make: InstanceWish = { ...run, isNew: true };
const stop: InstanceWish = { ...run, power: "stopped" };
const remove: InstanceWish = { ...stop, present: false };
const restore: InstanceWish = { ...run, replaceDisks: "restore", after: ["collect-layers"] };
const rebuild: InstanceWish = { ...restore, replaceDisks: "rebuild" };
const suspend: InstanceWish = { ...run, power: "suspended" };

function next(
  wish: InstanceWish,
  seen: Partial<ObservedInstance>,
  base: ObservedInstance,
  ...finished: InstanceStepName[]
) {
  const decision = decideInstance(wish, { ...base, ...seen }, new Set(finished));
  if ("run" in decision) return decision.run;
  if ("wait" in decision) return `wait: ${decision.wait}`;
  if ("fail" in decision) return `${decision.fail.code}${decision.keep ? " (kept)" : ""}`;
  return "done";
}

describe("what is next for an instance", () => {
  it.each<[string, string, () => string]>([
    [
      "an image still being built is waited for",
      "wait: waiting for its image",
      () => next(make, { image: { state: "building" } }, nothing),
    ],
    [
      "an image that failed fails with its error",
      "build_failed",
      () => next(make, { image: { state: "failed", error: new BerthError("build_failed", "no") } }, nothing),
    ],
    ["a deleted image fails", "not_found", () => next(make, { image: { state: "gone" } }, nothing)],
    ["a missing artifact is rebuilt", "realise-image", () => next(make, {}, nothing)],
    [
      "an image that has volumes gives its instance a disk for them",
      "plan-disks",
      () => next(make, { artifact: true, disksPlanned: false, template: missing }, nothing),
    ],
    ["one that is there keeps the disks it has", "done", () => next(run, { disksPlanned: false }, healthy)],
    ["then come the disks", "create-disks", () => next(make, { artifact: true }, nothing)],
    ["then the ports", "reserve-ports", () => next(make, { artifact: true, disks: true }, nothing)],
    ["lost disks are never made anew", "disk_missing", () => next(run, { disks: false }, off)],
    ["then the machine", "create-machine", () => next(run, { made: false }, off)],
    ["then the power", "start-machine", () => next(run, {}, off)],
    [
      "what a pool had for it is taken over",
      "take-over",
      () => next(make, { claimed: true, power: "paused" }, healthy),
    ],
    [
      "gets its ports",
      "reserve-ports",
      () => next(make, { claimed: true, power: "paused", portsReserved: false }, healthy, "take-over"),
    ],
    ["and goes on", "start-machine", () => next(make, { claimed: true, power: "paused" }, healthy, "take-over")],
    ["a template it must begin from is asked for", "request-template", () => next(run, { template: missing }, off)],
    ["one that failed for another is tried again", "request-template", () => next(run, { template: failed }, off)],
    [
      "one being made is waited for",
      "wait: waiting for its template",
      () => next(run, { template: { state: "building" } }, off),
    ],
    ["one that is there is begun from", "start-machine", () => next(run, { template: { state: "ready" } }, off)],
    ["one that failed fails", "template_failed", () => next(run, { template: failed }, off, "request-template")],
    ["so does one deleted by then", "template_failed", () => next(run, { template: missing }, off, "request-template")],
    ["then it is waited for", "await-ready", () => next(run, { ready: false }, healthy, "start-machine")],
    ["a ready one is done", "done", () => next(run, {}, healthy)],
    [
      "a guest nobody can see is done once it runs",
      "done",
      () => next(run, { ready: false, guestVisible: false }, healthy),
    ],
    [
      "a missing program is reported and kept",
      "start_failed (kept)",
      () => next(run, { ready: false, failure: "no such file" }, healthy, "start-machine"),
    ],
    [
      "so it is when the machine is off by then",
      "start_failed (kept)",
      () => next(run, { failure: "no such file" }, off, "start-machine"),
    ],
    [
      "a program that ended well and publishes nothing is done",
      "done",
      () => next(run, { exit: { code: 0 } }, off, "start-machine"),
    ],
    [
      "one that should have served is not",
      "exited_early (kept)",
      () => next(run, { exit: { code: 0 }, publishes: true }, off, "start-machine"),
    ],
    [
      "a program that failed is reported and kept",
      "exited_early (kept)",
      () => next(run, { exit: { code: 3 } }, off, "start-machine"),
    ],
    [
      "a machine that is off without a word is reported",
      "exited_early (kept)",
      () => next(run, {}, off, "start-machine"),
    ],
    [
      "waiting in vain is reported and kept",
      "not_ready_in_time (kept)",
      () => next(run, { ready: false }, healthy, "start-machine", "await-ready"),
    ],
    [
      "a newer restart generation asks the guest to stop",
      "stop-guest",
      () => next({ ...run, restartGeneration: 1 }, {}, healthy),
    ],
    ["then cuts the power", "power-off", () => next({ ...run, restartGeneration: 1 }, {}, healthy, "stop-guest")],
    [
      "then starts again",
      "start-machine",
      () => next({ ...run, restartGeneration: 1 }, {}, off, "stop-guest", "power-off"),
    ],
    ["a stop asks first", "stop-guest", () => next(stop, {}, healthy)],
    ["a forced stop does not", "power-off", () => next({ ...stop, force: true }, {}, healthy)],
    ["nor does one without a channel", "power-off", () => next(stop, { guestVisible: false }, healthy)],
    [
      "one made but not started gets its disks",
      "create-disks",
      () => next({ ...stop, isNew: true }, { artifact: true }, nothing),
    ],
    ["and is done with its machine", "done", () => next({ ...stop, isNew: true }, {}, off)],
    [
      "a program that failed while its machine powers off is reported",
      "exited_early (kept)",
      () => next(run, { ready: false, exit: { code: 3 } }, healthy, "start-machine"),
    ],
    ["a stopped one is done", "done", () => next(stop, {}, off)],
    ["a suspend saves the memory of what runs", "suspend-machine", () => next(suspend, {}, healthy)],
    [
      "also of what was about to go off",
      "suspend-machine",
      () => next(suspend, { power: "paused", memoryBytes: 1 }, healthy),
    ],
    ["then it is done", "done", () => next(suspend, {}, asleep, "suspend-machine")],
    ["one that was busy stays awake", "done", () => next(suspend, {}, healthy, "suspend-machine")],
    ["and has its ports back", "give-back-ports", () => next(suspend, { portsHeld: true }, healthy, "suspend-machine")],
    ["what is off has no memory to save", "instance_not_running (kept)", () => next(suspend, {}, off)],
    [
      "nor has one whose process has ended",
      "exited_early (kept)",
      () => next(suspend, { exit: { code: 0 }, publishes: true }, healthy),
    ],
    ["a suspended one goes on", "start-machine", () => next(run, {}, asleep)],
    ["also half way", "start-machine", () => next(run, { power: "paused" }, { ...asleep, ready: false })],
    ["needs its artifact for that", "realise-image", () => next(run, { artifact: false }, asleep)],
    ["and its machine", "create-machine", () => next(run, { made: false }, asleep)],
    ["and has its ports back once it is ready", "give-back-ports", () => next(run, { portsHeld: true }, healthy)],
    [
      "or is given up",
      "give-back-ports",
      () => next(run, { portsHeld: true, ready: false }, healthy, "start-machine", "await-ready"),
    ],
    ["or has ended", "give-back-ports", () => next(run, { portsHeld: true }, off, "start-machine")],
    ["but not before", "await-ready", () => next(run, { portsHeld: true, ready: false }, healthy, "start-machine")],
    ["a cold start loses the memory first", "drop-memory", () => next({ ...run, cold: true }, {}, asleep)],
    ["what runs never has memory", "drop-memory", () => next(run, { memoryBytes: 1 }, healthy)],
    [
      "a restart would lose it, and is refused",
      "instance_suspended (kept)",
      () => next({ ...run, restartGeneration: 1 }, {}, asleep),
    ],
    ["so would a stop", "instance_suspended (kept)", () => next(stop, {}, asleep)],
    ["unless it is forced", "drop-memory", () => next({ ...stop, force: true }, {}, asleep)],
    [
      "then its ports are let go",
      "give-back-ports",
      () => next({ ...stop, force: true }, { memoryBytes: null }, asleep),
    ],
    ["a suspended one is deleted as any other", "destroy-machine", () => next(remove, {}, asleep)],
    [
      "its ports last",
      "give-back-ports",
      () => next(remove, { made: false, folder: false, memoryBytes: null }, asleep),
    ],
    ["a delete refuses what runs", "instance_running (kept)", () => next(remove, {}, healthy)],
    ["unless it is forced: then the power is cut", "power-off", () => next({ ...remove, force: true }, {}, healthy)],
    [
      "or its process has ended and it is merely going off",
      "power-off",
      () => next(remove, { exit: { code: 0 }, ready: false }, healthy),
    ],
    ["the machine goes before its disks", "destroy-machine", () => next(remove, {}, off)],
    ["the disks go last", "delete-disks", () => next(remove, { made: false }, off)],
    ["nothing left is done", "done", () => next(remove, { made: false, disks: false, folder: false }, off)],
    [
      "what is to be done after it comes then",
      "collect-layers",
      () => next({ ...remove, after: ["collect-layers"] }, { made: false, disks: false, folder: false }, off),
    ],
    ["a restore makes all ready beside the disks", "prepare-restore", () => next(restore, {}, healthy)],
    ["then stops what runs", "stop-guest", () => next(restore, {}, healthy, "prepare-restore")],
    ["then lets all change places", "replace-disks", () => next(restore, {}, off, "prepare-restore", "stop-guest")],
    [
      "then starts what ran, from another image too",
      "realise-image",
      () => next(restore, { artifact: false }, off, "prepare-restore", "replace-disks"),
    ],
    [
      "and then sees what nothing stands on any more",
      "collect-layers",
      () => next(restore, {}, healthy, "prepare-restore", "replace-disks", "start-machine"),
    ],
    [
      "one that did not run stays off",
      "collect-layers",
      () => next({ ...restore, power: "stopped" }, {}, off, "prepare-restore", "replace-disks"),
    ],
    [
      "a rebuild waits for its image while the instance runs on",
      "wait: waiting for its image",
      () => next(rebuild, { image: { state: "building" } }, healthy),
    ],
    [
      "that fails when the image does",
      "build_failed",
      () => next(rebuild, { image: { state: "failed", error: new BerthError("build_failed", "no") } }, healthy),
    ],
    ["or is deleted", "not_found", () => next(rebuild, { image: { state: "gone" } }, healthy)],
    ["then has it made bootable", "realise-image", () => next(rebuild, { artifact: false }, healthy)],
    ["then makes all ready beside the disks", "prepare-rebuild", () => next(rebuild, {}, healthy)],
    ["then stops what runs", "stop-guest", () => next(rebuild, {}, healthy, "prepare-rebuild")],
    ["then drops the memory of what sleeps", "drop-memory", () => next(rebuild, {}, asleep, "prepare-rebuild")],
    ["then lets all change places", "replace-disks", () => next(rebuild, {}, off, "prepare-rebuild", "stop-guest")],
    ["and starts what ran", "start-machine", () => next(rebuild, {}, off, "prepare-rebuild", "replace-disks")],
  ])("%s", (_, expected, decide) => {
    expect(decide()).toBe(expected);
  });
});

/** What each step does to a world in which everything works. */
const effects: Record<InstanceStepName, (world: ObservedInstance, wish: InstanceWish) => Partial<ObservedInstance>> = {
  "take-over": () => ({}),
  "realise-image": () => ({ artifact: true }),
  "plan-disks": () => ({ disksPlanned: true }),
  "create-disks": () => ({ disks: true, folder: true }),
  "reserve-ports": () => ({ portsReserved: true }),
  "create-machine": () => ({ made: true }),
  "request-template": () => ({ template: { state: "ready" } }),
  "start-machine": (_, wish) => ({
    power: "running",
    runGeneration: wish.restartGeneration,
    exit: null,
    failure: null,
    memoryBytes: null,
  }),
  "await-ready": () => ({ ready: true }),
  "stop-guest": () => ({ power: "stopped", ready: false }),
  "power-off": () => ({ power: "stopped", ready: false }),
  "suspend-machine": () => ({ power: "stopped", ready: false, memoryBytes: 1, portsHeld: true }),
  "drop-memory": () => ({ memoryBytes: null }),
  "give-back-ports": () => ({ portsHeld: false }),
  "destroy-machine": () => ({ made: false }),
  "delete-disks": () => ({ disks: false, folder: false, memoryBytes: null }),
  "prepare-restore": () => ({}),
  "prepare-rebuild": () => ({}),
  "replace-disks": () => ({ disks: true, folder: true }),
  "forget-snapshots": () => ({}),
  "collect-layers": () => ({}),
};

/** Every combination of what can be seen; memory only where there is a folder. */
function* everyState(): Generator<ObservedInstance> {
  const flags = [false, true];
  for (const artifact of flags)
    for (const disks of flags)
      for (const portsReserved of flags)
        for (const made of flags)
          for (const power of ["running", "paused", "stopped"] as const)
            for (const runGeneration of [null, 0, 1])
              for (const ready of flags)
                for (const guestVisible of flags)
                  for (const memoryBytes of disks ? [null, 1] : [null])
                    for (const portsHeld of flags)
                      yield {
                        ...healthy,
                        folder: disks || made,
                        artifact,
                        // What is on the disk was planned.
                        disksPlanned: disks || artifact,
                        disks,
                        portsReserved,
                        made,
                        power,
                        runGeneration,
                        ready,
                        guestVisible,
                        memoryBytes,
                        portsHeld,
                      };
}

/** Why a wish is refused: what is in its memory would be lost, or there is nothing to keep. */
function refusalOf(wish: InstanceWish, { power, memoryBytes, runGeneration }: ObservedInstance): string | undefined {
  if (!wish.present) return undefined;
  // What replaces the disks was forced, and loses the memory with them.
  const hasMemory = memoryBytes !== null && power !== "running" && wish.replaceDisks === null;
  if (wish.power === "suspended") return power === "stopped" && !hasMemory ? "instance_not_running" : undefined;
  const outdated = runGeneration !== null && runGeneration < wish.restartGeneration;
  const loses = wish.power === "stopped" ? !wish.force : outdated && !(wish.cold && power === "stopped");
  return hasMemory && loses ? "instance_suspended" : undefined;
}

describe("convergence", () => {
  const restart = { ...make, restartGeneration: 1 };
  const forced = [
    { ...stop, force: true },
    { ...remove, force: true },
  ];
  const restores = [restore, { ...restore, power: "stopped" as const }];
  const wishes = [make, { ...make, cold: true }, restart, stop, suspend, ...forced, ...restores];

  it("reaches every wish from every state in at most ten steps, and then has nothing left to do", () => {
    for (const wish of wishes) {
      for (const start of everyState()) {
        const refusal = refusalOf(wish, start);
        let world = start;
        const finished = new Set<InstanceStepName>();
        let steps = 0;
        for (;;) {
          const decision = decideInstance(wish, world, finished);
          if (!("run" in decision)) {
            if (refusal) expect("fail" in decision && decision.fail.code).toBe(refusal);
            else expect(decision).toEqual({ done: true });
            break;
          }
          world = { ...world, ...effects[decision.run](world, wish) };
          finished.add(decision.run);
          steps += 1;
          expect(steps).toBeLessThanOrEqual(10);
        }
        const asleep = world.power === "stopped" && world.memoryBytes !== null;
        expect(world.portsHeld && !asleep).toBe(false);
        if (refusal) continue;
        if (!wish.present) expect([world.power, world.made, world.folder]).toEqual(["stopped", false, false]);
        else if (wish.power === "suspended") expect(asleep).toBe(true);
        else expect([world.power, world.memoryBytes]).toEqual([wish.power, null]);
      }
    }
  });
});
