import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readMark } from "../../packages/daemon/src/drivers/qemu/command-line.ts";
import { accelerated, auditQemu, removeRules } from "../faults/audit-qemu.ts";
import { buildLedger, consoleOf, foundIn, ledgerImage } from "../forks/ledger-image.ts";
import { startBerthd } from "../support/berthd.ts";
import { frozenFiles } from "../support/disks.ts";
import { eventually } from "../support/eventually.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { processesOf } from "../support/processes.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const rounds = 12;

/** The frozen files that an instance's hypervisor has open; those without a name end in "(deleted)". */
function openIn(dataDir: string, instanceId: string): string[] {
  const argsOf = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  const machine = processesOf(dataDir).find(({ pid }) => {
    const marked = readMark(argsOf(pid));
    return marked?.isHypervisor && marked.owner.instanceId === instanceId;
  });
  if (!machine) throw new Error(`${instanceId} has no hypervisor`);
  const folder = `/proc/${machine.pid}/fd`;
  const paths = readdirSync(folder).map((fd) => {
    try {
      return readlinkSync(join(folder, fd));
    } catch {
      // It was closed in between.
      return "";
    }
  });
  // A file that was frozen while it ran is known by the name it was opened with.
  return paths.filter((path) => path.includes(".qcow2"));
}

it.each(whoRunsBerthd)(
  "a database under write load, snapshotted and merged again and again by a berthd run by $who, is sound, and so is all that is kept",
  async ({ ordinaryUser }) => {
    const scratch = await scratchDirectory("mrq");
    const dataDir = join(scratch, "data");
    const env = { BERTH_LOG_LEVEL: "warn", BERTH_TEMPLATES: "asked" };
    await using berthd = await startBerthd({ dataDir, ordinaryUser, env });
    const { client } = berthd;
    const calls = snapshotCalls(
      () => client,
      () => ledgerImage,
    );
    const layersOf = (name: string) =>
      readdirSync(join(dataDir, "snapshots")).flatMap((folder) => {
        const owner = JSON.parse(readFileSync(join(dataDir, "snapshots", folder, "snapshot.json"), "utf8"));
        return owner.snapshotId === ids.get(name) ? [join(dataDir, "snapshots", folder, "root.qcow2")] : [];
      });
    const ids = new Map<string, string>();
    /** All that a snapshot shows, as it was when it was taken. */
    const copyOf = (name: string) => join(scratch, `${name}.raw`);
    const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
    try {
      await accelerated(dataDir);
      await buildLedger(client, scratch);
      const { id, status } = await calls.create("ledger", { memoryMib: 96, diskMib: 512, warm: "never" });
      await consoleOf(client, "ledger", /^counted 100\r?$/m);
      const kept: string[] = [];
      let child: string | undefined;
      for (let round = 0; round < rounds; round += 1) {
        const name = `s${round}`;
        const made = await calls.snapshot("ledger", name);
        expect(made.consistency).toBe("frozen");
        ids.set(name, made.id);
        if (round % 4 === 1) {
          kept.push(name);
          qemuImg("convert", "-f", "qcow2", "-O", "raw", layersOf(name)[0] ?? "", copyOf(name));
        } else await calls.forget(name);
        if (round === 2) {
          // Forked from what runs: both stand on what was below the parent then.
          child = (await calls.fork("ledger"))[0]?.name;
        }
        if (round === 7) {
          // From here on only the parent does, and it has been stopped and started: it opened all that it stands on anew.
          await calls.remove(child ?? "");
          await calls.stop("ledger");
          await calls.start("ledger");
        }
        // It stands on a file of each kept snapshot, one that the fork may share, and the last one's.
        await eventually(() => {
          const open = openIn(dataDir, id);
          expect(open.filter((path) => path.endsWith("(deleted)") && path.includes("/snapshots/"))).toEqual([]);
          expect(open.length).toBeLessThanOrEqual(kept.length + 3 + 1);
        });
      }
      await eventually(() => expect(frozenFiles(dataDir)).toHaveLength(kept.length + 1));
      const { startedAt } = (await client.getInstance({ params: { instance: "ledger" } })).status;
      expect(startedAt).not.toBe(status.startedAt);

      for (const name of kept) {
        const { operation } = await client.verifySnapshot({ params: { snapshot: name }, query: { wait: 60 } });
        expect(operation.error).toBeNull();
        const compared = qemuImg("compare", "-f", "raw", "-F", "qcow2", copyOf(name), layersOf(name)[0] ?? "");
        expect(compared, name).toContain("Images are identical");
      }
      const [first = ""] = kept;
      const copy = await calls.launch(first, { name: "copy" });
      await consoleOf(client, copy.name, /^began with \d+\r?$/m, /^counted \d+\r?$/m);
      for (const name of ["ledger", "copy"]) {
        await calls.stop(name);
        const { memory, ...ended } = foundIn(await consoleOf(client, name, /^ended memory/m), "ended");
        expect(memory).toBeGreaterThan(50);
        expect(ended).toEqual({ disk: memory, entries: memory, integrity: "ok" });
      }
      await calls.removeAll();
      await auditQemu(client, dataDir, berthd.pid);
    } finally {
      await calls.removeAll();
      await berthd.stop();
      if (!ordinaryUser) removeRules(dataDir);
    }
  },
);
