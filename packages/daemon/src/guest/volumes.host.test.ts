import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { guestVolumes } from "./config.ts";
import { type BootOptions, GuestMachine, makeGuestDisk } from "./testing/guest-machine.ts";

const host = localHost();
const wait = { argv: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"] };

describe("the volumes of a guest", () => {
  let scratch: string;
  let machine: GuestMachine | undefined;
  let roots = 0;

  beforeAll(async () => {
    scratch = await scratchDirectory("volumes");
  });
  afterEach(() => machine?.end());
  afterAll(() => machine?.end());

  /** A root disk of the same image, as if never written to. */
  const freshRoot = async () => {
    const folder = join(scratch, `root${++roots}`);
    await mkdir(folder);
    const disk = await makeGuestDisk(folder);
    // What the image has at the places of its volumes.
    const commands = [
      ...["mkdir /data", "mkdir /data/sub", "symlink /data/link sub/seed", "symlink /linked /data"],
      ...[`write /etc/hostname /data/sub/seed`, "sif /data/sub/seed uid 1000", "sif /data/sub/seed mode 0100640"],
      ...["sif /data uid 1000", "sif /data gid 2000", "sif /data mode 0042770"],
      ...["ea_set /data/sub/seed user.note remembered"],
    ];
    for (const command of commands) await host.run("debugfs", ["-w", "-R", command, disk]);
    return disk;
  };
  const volumesDisk = async (sizeMib: number) => {
    const disk = join(scratch, `volumes${roots}.img`);
    await host.run("mke2fs", ["-q", "-t", "ext4", disk, `${sizeMib}M`]);
    return disk;
  };
  const boot = async (root: string, volumes: string, paths: readonly string[], options: BootOptions = {}) => {
    machine = new GuestMachine(await scratchDirectory("vm"));
    machine.overrides = { volumes: guestVolumes({ volumes: [...paths] }) };
    await machine.boot(root, { process: wait, volumes, ...options });
    await machine.waitFor(({ phase, failure }) => phase === "running" || failure !== null);
    return machine;
  };
  const stop = async (running: GuestMachine) => {
    running.hub.stop(running.id, { signal: 15, timeoutMs: 1000 });
    await running.off();
  };

  it("begin as the image's folders, owner, mode and attributes included, and outlive the root disk", async () => {
    const [root, volumes] = [await freshRoot(), await volumesDisk(64)];
    const paths = ["/data/sub", "/data", "/var/new"];
    const first = await boot(root, volumes, paths);
    expect(await first.sh("stat -c '%u:%g %a' /data /data/sub/seed /var/new; cat /data/link | wc -c")).toMatch(
      /^1000:2000 2770\n1000:0 640\n0:0 755\n[1-9]\d*\n$/,
    );
    await first.sh(
      "echo kept > /data/sub/file; rm /data/sub/seed; echo more > /var/new/file; echo lost > /root-file; sync",
    );
    await stop(first);
    expect((await host.run("e2fsck", ["-fn", volumes])).stdout).toContain("files");

    const second = await boot(await freshRoot(), volumes, paths);
    expect(await second.sh("cat /data/sub/file /var/new/file; ls /data/sub; ls /root-file")).toBe("kept\nmore\nfile\n");
    await stop(second);

    // Another image, which has them elsewhere and one more.
    const third = await boot(await freshRoot(), volumes, ["/data/sub", "/more"]);
    expect(await third.sh("cat /data/sub/file; stat -c %u /data; touch /more/file && echo written")).toBe(
      "kept\n1000\nwritten\n",
    );
  });

  it("follow links within the image, and grow with their disk while it runs", async () => {
    const volumes = await volumesDisk(64);
    const running = await boot(await freshRoot(), volumes, ["/linked/inner"]);
    await running.sh("echo here > /data/inner/file");
    expect(await running.sh("cat /linked/inner/file")).toBe("here\n");
    const size = async () => Number((await running.sh("df -m /data/inner")).split("\n")[1]?.split(/\s+/)[1]);
    expect(await size()).toBeLessThan(64);
    const bytes = 512 * 2 ** 20;
    // The guest may hear of it before its kernel has: it waits.
    const grown = running.hub.grow(running.id, [0, bytes], AbortSignal.timeout(60_000));
    await running.qmp((qmp) => qmp.execute("block_resize", { device: "volumes", size: bytes }));
    await grown;
    expect(await size()).toBeGreaterThan(400);
  });

  it("stand still with the root while both are frozen", async () => {
    const running = await boot(await freshRoot(), await volumesDisk(64), ["/data"]);
    const { hub, id } = running;
    const soon = () => AbortSignal.timeout(60_000);
    await running.sh("(while :; do date > /data/now; date > /now; done) > /dev/null 2>&1 &");
    await hub.freeze(id, soon());
    await hub.thaw(id, soon());
    await hub.freeze(id, soon());
    await hub.thaw(id, soon());
    expect(await running.sh("echo on > /data/after && cat /data/after")).toBe("on\n");
  });

  it("fail the start in words when they cannot be had", async () => {
    const raw = join(scratch, "no-file-system.img");
    await host.run("truncate", ["-s", "32M", raw]);
    const failed = await boot(await freshRoot(), raw, ["/data"]);
    expect(failed.hub.latest(failed.id)?.failure?.reason).toBe(
      "cannot mount the disk of the volumes: Invalid argument",
    );
    await failed.off();
    await machine?.end();
    const blocked = await boot(await freshRoot(), await volumesDisk(64), ["/not-executable/data"]);
    expect(blocked.hub.latest(blocked.id)?.failure?.reason).toBe(
      "cannot make the folder of the volume /not-executable/data: Not a directory",
    );
    await blocked.off();
  });

  it("are filled anew when the power went while they were", async () => {
    const volumes = await volumesDisk(64);
    // What such a boot leaves.
    await host.run("debugfs", ["-w", "-R", "mkdir /new-%2Fdata", volumes]);
    await host.run("debugfs", ["-w", "-R", "mkdir /new-%2Fdata/half", volumes]);
    const running = await boot(await freshRoot(), volumes, ["/data"]);
    expect(await running.sh("ls /data; stat -c %a /data")).toBe("link\nsub\n2770\n");
  });
});
