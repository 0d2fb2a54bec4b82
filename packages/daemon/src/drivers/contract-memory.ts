import { chmod, open, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Bench } from "./contract.ts";
import type { Handle, Paused, SaveMemoryRequest } from "./driver.ts";

/** Proves that memory is saved whole or not at all, and gone on from whole or not at all. */
export function proveMemory({ harness, memory, signal, make, seen }: Bench): void {
  const driver = () => {
    const made = harness().driver();
    const { saveMemory, activeDisks } = made;
    if (!saveMemory || !activeDisks) throw new Error("The driver saves no memory");
    return { ...made, saveMemory, activeDisks };
  };
  const save = (handle: Handle, request: Partial<SaveMemoryRequest> & Pick<SaveMemoryRequest, "folder">) => {
    const whole = {
      use: "shared",
      switches: [],
      afterwards: "resume",
      beforePause: async () => {},
      ...request,
    } as const;
    return driver().saveMemory(handle, whole, signal());
  };
  const start = (handle: Handle, request = {}) => driver().start(handle, signal(), request);
  const bootId = (handle: Handle) => memory().bootId(handle);

  test("saves the memory of a machine that runs on, and others go on from it, as often as they like", async () => {
    const parent = await make();
    await start(parent.handle);
    const boot = await bootId(parent.handle);
    const folder = await memory().folder();
    const order: string[] = [];
    const { pausedMs } = await save(parent.handle, {
      folder,
      beforePause: async () => void order.push("before"),
      afterPause: () => void order.push("after"),
    });
    expect(order).toEqual(["before", "after"]);
    expect(pausedMs).toBeGreaterThan(0);
    expect(pausedMs).toBeLessThan(60_000);
    await seen(parent.handle, { power: "running" });
    expect(await bootId(parent.handle)).toBe(boot);
    const { startedAt } = await driver().inspect(parent.handle);

    const first = await make();
    const shared = { folder, use: "shared" } as const;
    await start(first.handle, { memory: shared, paused: true });
    await seen(first.handle, { power: "paused" });
    await start(first.handle, { paused: true });
    await seen(first.handle, { power: "paused" });
    await start(first.handle);
    await seen(first.handle, { power: "running" });
    expect(await bootId(first.handle)).toBe(boot);
    expect((await driver().inspect(first.handle)).startedAt).toBeGreaterThanOrEqual(startedAt ?? 0);

    const second = await make();
    await start(second.handle, { memory: shared });
    expect(await bootId(second.handle)).toBe(boot);
    await start(second.handle, { memory: shared });
    await driver().powerOff(second.handle);
    await start(second.handle);
    expect(await bootId(second.handle)).not.toBe(boot);
  });

  test("goes on from a memory that was gone on from, saved again", async () => {
    const [parent, child, grandchild] = [await make(), await make(), await make()];
    await start(parent.handle);
    const boot = await bootId(parent.handle);
    const [first, second] = [await memory().folder(), await memory().folder()];
    await save(parent.handle, { folder: first });
    await driver().powerOff(parent.handle);
    await start(child.handle, { memory: { folder: first, use: "shared" } });
    expect(await bootId(child.handle)).toBe(boot);
    await save(child.handle, { folder: second });
    await rm(first, { recursive: true });
    expect(await bootId(child.handle)).toBe(boot);
    await start(grandchild.handle, { memory: { folder: second, use: "shared" } });
    expect(await bootId(grandchild.handle)).toBe(boot);
  });

  test("saves and powers off; asked again it finds that done; it alone goes on", async () => {
    const { handle } = await make();
    await start(handle);
    const boot = await bootId(handle);
    const folder = await memory().folder();
    const request = { folder, use: "own", afterwards: "off" } as const;
    const paused = await save(handle, request);
    await seen(handle, { exists: true, power: "stopped" });
    expect(await save(handle, request)).toEqual(paused);
    await start(handle, { memory: { folder, use: "own" } });
    await rm(folder, { recursive: true });
    await seen(handle, { power: "running" });
    expect(await bootId(handle)).toBe(boot);
    await driver().powerOff(handle);
    await expect(save(handle, request)).rejects.toMatchObject({ code: "instance_not_running" });
  });

  test("refuses memory that is damaged, cut short, missing or another machine's, with nothing running", async () => {
    const parent = await make();
    await start(parent.handle);
    const folder = await memory().folder();
    const again = () => save(parent.handle, { folder });
    const refused = async (handle: Handle, use: "shared" | "own") => {
      const started = start(handle, { memory: { folder, use } });
      await expect(started).rejects.toMatchObject({ code: "memory_unusable" });
      await seen(handle, { exists: true, power: "stopped" });
    };
    const { handle } = await make();
    await refused(handle, "shared");
    await again();
    for (const [part, spoil] of [
      ["ram", damage],
      ["state", damage],
      ["ram", cutShort],
      ["state", cutShort],
      ["image.json", cutShort],
    ] as const) {
      const mend = await spoil(join(folder, part));
      for (const use of ["shared", "own"] as const) await refused(handle, use);
      await mend();
    }
    const larger = await make([], { memoryMib: parent.inputs.memoryMib + 64 });
    await refused(larger.handle, "shared");
    const wider = await make([], { cpus: parent.inputs.cpus + 1 });
    await refused(wider.handle, "shared");
    await start(handle, { memory: { folder, use: "shared" } });
    await seen(handle, { power: "running" });
  });

  test("leaves the machine running, and no image, when its guest cannot be held or nobody waits any more", async () => {
    const { handle } = await make();
    await start(handle);
    const boot = await bootId(handle);
    const folder = await memory().folder();
    const given = new Error("it does not hold");
    await expect(save(handle, { folder, beforePause: () => Promise.reject(given) })).rejects.toBe(given);
    const nobody = new AbortController();
    const request = { folder, use: "shared", switches: [], afterwards: "off" } as const;
    const beforePause = async () => nobody.abort(given);
    await expect(driver().saveMemory(handle, { ...request, beforePause }, nobody.signal)).rejects.toBe(given);
    await seen(handle, { power: "running" });
    expect(await bootId(handle)).toBe(boot);
    const started = start((await make()).handle, { memory: { folder, use: "shared" } });
    await expect(started).rejects.toMatchObject({ code: "memory_unusable" });
    await save(handle, { folder });
    expect(await bootId(handle)).toBe(boot);
  });

  test("switches disks in the pause of a save, and finds both done when asked again", async () => {
    const { owner, handle } = await make();
    await start(handle);
    const overlayPath = await memory().overlay(owner, "root");
    const request = { folder: await memory().folder(), switches: [{ disk: "root", overlayPath }] };
    const paused: Paused = await save(handle, request);
    expect(await driver().activeDisks(handle)).toEqual({ root: overlayPath });
    expect(await save(handle, { ...request, beforePause: () => Promise.reject(new Error("again")) })).toEqual(paused);
    await rm(request.folder, { recursive: true });
    // That moment has passed: memory of now does not go with disks of then.
    await expect(save(handle, request)).rejects.toMatchObject({ code: "host_program_failed" });
    await seen(handle, { power: "running" });
  });
}

/** Changes one byte of the file that is not zero; what it returns puts it back. */
async function damage(path: string): Promise<() => Promise<void>> {
  const { mode } = await stat(path);
  await chmod(path, 0o600);
  const file = await open(path, "r+");
  try {
    for (let at = 0; ; at += 65_536) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(65_536), { position: at });
      const offset = buffer.subarray(0, bytesRead).findIndex((byte) => byte !== 0);
      if (bytesRead === 0) throw new Error(`${path} has nothing to damage`);
      if (offset < 0) continue;
      const was = buffer.subarray(offset, offset + 1);
      await file.write(Buffer.from([buffer.readUInt8(offset) ^ 0x40]), 0, 1, at + offset);
      return async () => {
        const mended = await open(path, "r+");
        await mended.write(was, 0, 1, at + offset);
        await mended.close();
        await chmod(path, mode);
      };
    }
  } finally {
    await file.close();
  }
}

/** Takes the last byte off; what it returns puts it back. */
async function cutShort(path: string): Promise<() => Promise<void>> {
  const { mode, size } = await stat(path);
  await chmod(path, 0o600);
  const file = await open(path, "r+");
  const { buffer: last } = await file.read(Buffer.alloc(1), { position: size - 1 });
  await file.close();
  await truncate(path, size - 1);
  return async () => {
    const mended = await open(path, "r+");
    await mended.write(last, 0, 1, size - 1);
    await mended.close();
    await chmod(path, mode);
  };
}
