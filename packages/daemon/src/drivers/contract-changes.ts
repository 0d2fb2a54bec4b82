import { rename } from "node:fs/promises";
import { expect, test } from "vitest";
import type { Bench } from "./contract.ts";

/** Proves what a driver does to machines while they run. */
export function proveChanges({ harness, memory, signal, make, seen }: Bench): void {
  const driver = () => {
    const made = harness().driver();
    const { switchDisks, activeDisks, growDisk, publish, openConnections, pause, memoryUsed } = made;
    if (!switchDisks || !activeDisks || !growDisk || !publish || !openConnections || !pause || !memoryUsed)
      throw new Error("The driver cannot change machines that run");
    return { ...made, switchDisks, activeDisks, growDisk, publish, openConnections, pause, memoryUsed };
  };
  const local = (hostPort: number) => ({ hostAddress: "127.0.0.1", hostPort, guestPort: 80, protocol: "tcp" as const });

  test("starts paused, and lets it go on when asked again", async () => {
    const { handle } = await make();
    await driver().start(handle, signal(), { paused: true });
    await seen(handle, { power: "paused", startedAt: expect.any(Number) });
    const { startedAt } = await driver().inspect(handle);
    await driver().start(handle, signal());
    await seen(handle, { power: "running", startedAt });
    await memory().bootId(handle);
    await driver().start(handle, signal(), { paused: true });
    await seen(handle, { power: "running" });
    await driver().powerOff(handle);
    await driver().start(handle, signal(), { paused: true });
    await driver().powerOff(handle);
    await seen(handle, { power: "stopped" });
  });

  test("lets one stand still as often as it is asked, and go on, and tells what it takes of memory", async () => {
    const { handle } = await make();
    await expect(driver().pause(handle)).rejects.toMatchObject({ code: "instance_not_running" });
    expect(await driver().memoryUsed(handle)).toBeUndefined();
    await driver().start(handle, signal());
    const bootId = await memory().bootId(handle);
    for (const _ of [1, 2]) await driver().pause(handle);
    await seen(handle, { power: "paused" });
    expect(await driver().memoryUsed(handle)).toBeGreaterThan(2 ** 20);
    await driver().start(handle, signal());
    await seen(handle, { power: "running" });
    expect(await memory().bootId(handle)).toBe(bootId);
  });

  test("switches disks as often as it is asked, and knows a disk that was renamed since", async () => {
    const { owner, inputs, handle } = await make();
    const [{ path } = { path: "" }] = inputs.disks;
    await driver().start(handle, signal());
    expect(await driver().activeDisks(handle)).toEqual({ root: path });
    for (const _ of [1, 2]) {
      const overlayPath = await memory().overlay(owner, "root");
      const switches = [{ disk: "root", overlayPath }];
      await driver().switchDisks(handle, switches, signal());
      await driver().switchDisks(handle, switches, signal());
      expect(await driver().activeDisks(handle)).toEqual({ root: overlayPath });
      const frozen = `${path}.frozen${Math.random()}`;
      await rename(path, frozen);
      await rename(overlayPath, path);
      await memory().standOn(owner, frozen);
      expect(await driver().activeDisks(handle)).toEqual({ root: path });
    }
    await memory().bootId(handle);
    const nowhere = driver().switchDisks(handle, [{ disk: "root", overlayPath: `${path}.nowhere` }], signal());
    await expect(nowhere).rejects.toMatchObject({ code: "host_program_failed" });
    expect(await driver().activeDisks(handle)).toEqual({ root: path });
  });

  test("grows a disk, never shrinks one", async () => {
    const { handle } = await make();
    await driver().start(handle, signal());
    await driver().growDisk(handle, "root", 96);
    await driver().growDisk(handle, "root", 96);
    await driver().growDisk(handle, "root", 48);
    await expect(driver().growDisk(handle, "other", 96)).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("publishes exactly the ports it is told, or those it had", async () => {
    const [kept, other, taken] = [await harness().freePort(), await harness().freePort(), await harness().freePort()];
    const [first, second] = [await make([local(kept)]), await make([local(taken)])];
    for (const { handle } of [first, second]) await driver().start(handle, signal());
    const { handle } = first;
    await driver().publish(handle, [local(kept), local(other)]);
    await driver().publish(handle, [local(kept), local(other)]);
    const refused = driver().publish(handle, [local(other), local(taken)]);
    await expect(refused).rejects.toMatchObject({
      code: "port_taken",
      message: expect.stringContaining(String(taken)),
    });
    await expect(driver().publish(second.handle, [local(kept)])).rejects.toMatchObject({ code: "port_taken" });
    await driver().publish(handle, []);
    await driver().publish(second.handle, [local(kept), local(other), local(taken)]);
    expect(await driver().openConnections(handle)).toBe(0);
  });

  test("changes nothing of one that is off", async () => {
    const { handle } = await make();
    const off = { code: "instance_not_running" };
    await expect(driver().switchDisks(handle, [], signal())).rejects.toMatchObject(off);
    await expect(driver().activeDisks(handle)).rejects.toMatchObject(off);
    await expect(driver().growDisk(handle, "root", 96)).rejects.toMatchObject(off);
    await expect(driver().publish(handle, [])).rejects.toMatchObject(off);
    expect(await driver().openConnections(handle)).toBe(0);
  });
}
