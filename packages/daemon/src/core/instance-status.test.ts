import type { InstanceStatus } from "@berth/api";
import { expect, it } from "vitest";
import { changeEvent, observedStatus, type SeenState, statusChanged } from "./instance-status.ts";

const before: InstanceStatus = {
  phase: "running",
  ready: true,
  health: "healthy",
  reason: "",
  observedAt: "2026-01-01T00:00:00.000Z",
  exitCode: null,
  startedAt: "2026-01-01T00:00:00.000Z",
  memoryBytes: null,
  ports: [],
  start: null,
  restartGeneration: 0,
  restarts: { count: 0, delayMs: 0, nextAt: null },
  snapshots: null,
  pending: [],
};
const now = "2026-01-01T00:01:00.000Z";
const running: SeenState = {
  power: "running",
  powerReason: "",
  exit: null,
  failure: null,
  ready: true,
  notReadyReason: "",
  heard: true,
  guestVisible: true,
  startedAt: before.startedAt,
  memoryBytes: null,
};

it("changes nothing but the time while all is well", () => {
  const after = observedStatus(before, running, "running", now);
  expect(after.observedAt).toBe(now);
  expect(statusChanged(before, after)).toBe(false);
  expect(changeEvent(before, after)).toBeUndefined();
});

it("tells why a running one is not ready", () => {
  const after = observedStatus(
    before,
    { ...running, ready: false, notReadyReason: "nothing listens on port 80" },
    "running",
    now,
  );
  expect(after).toMatchObject({ phase: "running", ready: false, reason: "nothing listens on port 80" });
  expect(changeEvent(before, after)).toBe("instance.unready");
});

it("keeps the exit code of one that ended", () => {
  const after = observedStatus(
    before,
    { ...running, power: "stopped", exit: { code: 3 }, ready: false },
    "running",
    now,
  );
  expect(after).toMatchObject({ phase: "stopped", exitCode: 3, reason: "its process ended with exit code 3" });
  expect(changeEvent(before, after)).toBe("instance.stopped");
});

it("says nothing of how one ended that was asked to stop", () => {
  expect(observedStatus(before, { ...running, power: "stopped", exit: { code: 137 } }, "stopped", now).reason).toBe("");
});

it("shows one whose guest has ended as stopping until its machine is off, and a failed one as failed", () => {
  const ended = { ...running, ready: false, exit: { code: 3 } };
  expect(observedStatus(before, ended, "running", now)).toMatchObject({ phase: "stopping", exitCode: 3, ready: false });
  expect(observedStatus({ ...before, phase: "failed" }, ended, "running", now).phase).toBe("failed");
});

it("says what the driver says when the guest said nothing", () => {
  const after = observedStatus(
    before,
    { ...running, power: "stopped", powerReason: "the host was restarted" },
    "running",
    now,
  );
  expect(after.reason).toBe("the host was restarted");
});

it("says that nothing was said when a machine went off by itself", () => {
  const after = observedStatus(before, { ...running, power: "stopped" }, "running", now);
  expect(after.reason).toBe("the machine went off without a word from its guest");
});

it("keeps a failure until the instance runs again", () => {
  const failed: InstanceStatus = { ...before, phase: "failed", ready: false, reason: "no such file" };
  expect(observedStatus(failed, { ...running, power: "stopped" }, "running", now)).toMatchObject({
    phase: "failed",
    reason: "no such file",
  });
  expect(observedStatus(failed, running, "running", now)).toMatchObject({ phase: "running", reason: "" });
});

it("keeps what was known of a guest that has not been heard yet", () => {
  expect(observedStatus(before, { ...running, ready: false, heard: false }, "running", now).ready).toBe(true);
});

it("takes a guest it cannot see into for ready once it runs", () => {
  expect(observedStatus(before, { ...running, guestVisible: false, ready: false }, "running", now).ready).toBe(true);
});

it("says that one that is off with its memory is suspended, and why it could not go on", () => {
  const seen = { ...running, power: "stopped", ready: false, memoryBytes: 4096 } as const;
  const suspended = observedStatus(before, seen, "suspended", now);
  expect(suspended).toMatchObject({ phase: "suspended", ready: false, reason: "", memoryBytes: 4096 });
  expect(changeEvent(before, suspended)).toBe("instance.suspended");
  const refused = { ...suspended, reason: "the saved memory is damaged" };
  expect(observedStatus(refused, seen, "running", now).reason).toBe("the saved memory is damaged");
  expect(observedStatus(refused, { ...seen, memoryBytes: null }, "stopped", now)).toMatchObject({
    phase: "stopped",
    reason: "",
    memoryBytes: null,
  });
});
