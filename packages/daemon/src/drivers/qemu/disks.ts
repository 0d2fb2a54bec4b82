import { randomBytes } from "node:crypto";
import { BerthError } from "@berth/api";
import { z } from "zod";
import type { Host } from "../../host/host.ts";
import type { CreateInputs, DiskSwitch } from "../driver.ts";
import { diskDevice, diskNode } from "./command-line.ts";
import { type Qmp, QmpError } from "./qmp.ts";

/** The part of `query-block` that is used (qapi/block-core.json, BlockInfo). */
const Blocks = z.array(
  z.looseObject({
    qdev: z.string().optional(),
    inserted: z
      .looseObject({
        "node-name": z.string(),
        file: z.string(),
        image: z.looseObject({ "virtual-size": z.number() }),
      })
      .optional(),
  }),
);

/** A disk as the running QEMU has it. */
export interface ActiveDisk {
  readonly name: string;
  readonly index: number;
  /** The node that is written to. */
  readonly node: string;
  /** What its file was called when QEMU opened it. */
  readonly openedAs: string;
  readonly bytes: number;
}

/** What the machine's disks are now, in their order. */
export async function queryDisks(qmp: Qmp, disks: CreateInputs["disks"]): Promise<readonly ActiveDisk[]> {
  const blocks = Blocks.parse(await qmp.execute("query-block"));
  return disks.map(({ name }, index) => {
    // /machine/peripheral/disk0/virtio-backend
    const block = blocks.find(({ qdev }) => qdev?.split("/").includes(diskDevice(index)));
    if (!block?.inserted) throw new Error(`QEMU does not know the disk ${name}`);
    const { "node-name": node, file, image } = block.inserted;
    return { name, index, node, openedAs: fileOf(file), bytes: image["virtual-size"] };
  });
}

/** A disk whose backing is another than its file says has no plain name in QEMU but all its options as JSON. */
function fileOf(name: string): string {
  if (!name.startsWith("json:")) return name;
  return FileOptions.parse(JSON.parse(name.slice("json:".length))).file.filename;
}

const FileOptions = z.looseObject({ file: z.looseObject({ filename: z.string() }) });

/** The files that the disks are written to now, by what they are called now. */
export async function activeFiles(
  host: Host,
  qmp: Qmp,
  disks: CreateInputs["disks"],
): Promise<Readonly<Record<string, string>>> {
  const files: Record<string, string> = {};
  for (const { name, index, node, openedAs } of await queryDisks(qmp, disks)) {
    const path = disks[index]?.path ?? "";
    const identity = await host.files.identity(path);
    // A machine that an older daemon started has nodes without a file's identity, and was never switched.
    const isOwn = identity !== undefined && node === diskNode(index, identity);
    files[name] = isOwn || node === diskDevice(index) ? path : openedAs;
  }
  return files;
}

/** A switch as QEMU will do it. */
export interface PreparedSwitch {
  readonly from: string;
  readonly to: string;
  /** The present file, by what it is called now, and by what QEMU opened it as. */
  readonly file: { readonly path: string; readonly openedAs: string };
}

/** What is to be switched, with the overlays opened; and those switched already. Nothing has changed for the guest yet. */
export async function prepareSwitches(
  host: Host,
  qmp: Qmp,
  disks: CreateInputs["disks"],
  switches: readonly DiskSwitch[],
): Promise<{ readonly todo: readonly PreparedSwitch[]; readonly done: number }> {
  const active = await queryDisks(qmp, disks);
  const wanted: { disk: ActiveDisk; node: string; path: string }[] = [];
  for (const { disk: name, overlayPath } of switches) {
    const disk = requireDisk(active, name);
    const identity = await host.files.identity(overlayPath);
    if (!identity) throw new BerthError("host_program_failed", `The overlay of the disk ${name} is not there.`);
    wanted.push({ disk, node: diskNode(disk.index, identity), path: overlayPath });
  }
  const todo = wanted.filter(({ disk, node }) => disk.node !== node);
  try {
    for (const { node, path } of todo) await openOverlay(qmp, node, path);
  } catch (error) {
    await dropOverlays(
      qmp,
      todo.map(({ node }) => node),
    );
    throw error;
  }
  return {
    todo: todo.map(({ disk, node }) => ({
      from: disk.node,
      to: node,
      file: { path: disks[disk.index]?.path ?? "", openedAs: disk.openedAs },
    })),
    done: wanted.length - todo.length,
  };
}

/** Switches all of them at one moment, or none. */
export async function commitSwitches(host: Host, qmp: Qmp, switches: readonly PreparedSwitch[]): Promise<void> {
  if (switches.length === 0) return;
  const actions = switches.map(({ from, to }) => ({ type: "blockdev-snapshot", data: { node: from, overlay: to } }));
  const files = switches.map(({ file }) => file);
  await underFirstNames(host, files, () => qmp.execute("transaction", { actions }));
}

/**
 * Does what has QEMU open disks' files once more. It does so by the names they had when they were opened first; where that fails for one that is only read from then on it says
 * nothing, and goes on with a file that nobody else can stand on as long as it runs. So a file that was renamed has its first name once more meanwhile.
 */
async function underFirstNames(
  host: Host,
  files: readonly PreparedSwitch["file"][],
  act: () => Promise<unknown>,
): Promise<void> {
  const renamed: string[] = [];
  try {
    for (const { path, openedAs } of files) {
      if (openedAs === path || (await host.files.exists(openedAs))) continue;
      renamed.push(openedAs);
      await host.files.link(path, openedAs);
    }
    await act();
  } finally {
    for (const name of renamed) await host.files.remove(name);
  }
}

/** Closes overlays that were opened and are not in use. */
export async function dropOverlays(qmp: Qmp, nodes: readonly string[]): Promise<void> {
  for (const node of nodes) await qmp.execute("blockdev-del", { "node-name": node }).catch(ignoreRefusal);
}

/** Grows a disk; the guest is told. */
export async function growDisk(
  qmp: Qmp,
  disks: CreateInputs["disks"],
  request: { readonly disk: string; readonly sizeMib: number },
): Promise<void> {
  const disk = requireDisk(await queryDisks(qmp, disks), request.disk);
  const bytes = request.sizeMib * 1024 * 1024;
  if (bytes > disk.bytes) await qmp.execute("block_resize", { "node-name": disk.node, size: bytes });
}

/** The part of `query-named-block-nodes` that is used (qapi/block-core.json, BlockDeviceInfo). */
const Nodes = z.array(z.looseObject({ "node-name": z.string(), drv: z.string(), file: z.string() }));

/**
 * Lets a disk stand on files that are opened anew. QEMU opens the uppermost and, by their headers, all below it; its node goes over to them between two requests of the guest, and
 * the nodes of before are closed.
 */
export async function reopenBacking(
  host: Host,
  qmp: Qmp,
  disks: CreateInputs["disks"],
  { disk: name, backingPath }: { readonly disk: string; readonly backingPath: string },
): Promise<void> {
  const disk = requireDisk(await queryDisks(qmp, disks), name);
  const nodes = await queryNodes(qmp);
  const file = nodes.find(({ drv, file }) => drv === "file" && file === disk.openedAs)?.["node-name"];
  if (!file) throw new Error(`QEMU does not know the file of the disk ${name}`);
  const below = `${diskDevice(disk.index)}-below-${randomBytes(6).toString("hex")}`;
  const backing = { driver: "file", filename: backingPath, locking: "on" };
  await qmp.execute("blockdev-add", { driver: "qcow2", "node-name": below, "read-only": true, file: backing });
  try {
    const readOnly = disks[disk.index]?.readOnly ?? false;
    // All that is not named here goes back to its default; these are the options of `diskBlockdev` and `openOverlay`.
    const same = { driver: "qcow2", "node-name": disk.node, discard: "unmap", "read-only": readOnly, file };
    const named = { path: disks[disk.index]?.path ?? "", openedAs: disk.openedAs };
    await underFirstNames(host, [named], () =>
      qmp.execute("blockdev-reopen", { options: [{ ...same, backing: below }] }),
    );
  } finally {
    await dropUnused(qmp, disk);
  }
}

/** Closes what was opened by name for a disk and is not in use; QEMU refuses to close anything else. One that another of them stands on is not in use once that is closed. */
async function dropUnused(qmp: Qmp, { index, node: active }: ActiveDisk): Promise<void> {
  const named = async () => {
    const names = (await queryNodes(qmp)).map((node) => node["node-name"]);
    return names.filter((name) => name.startsWith(`${diskDevice(index)}-`) && name !== active);
  };
  let before = Number.POSITIVE_INFINITY;
  for (let names = await named(); names.length < before; names = await named()) {
    before = names.length;
    await dropOverlays(qmp, names);
  }
}

async function queryNodes(qmp: Qmp): Promise<z.infer<typeof Nodes>> {
  return Nodes.parse(await qmp.execute("query-named-block-nodes", { flat: true }));
}

/** Has the guest look at how long its disks are: one that goes on from memory believes what was so when that was saved. */
export async function tellSizes(qmp: Qmp, disks: CreateInputs["disks"]): Promise<void> {
  for (const { node, bytes, index } of await queryDisks(qmp, disks)) {
    if (!disks[index]?.readOnly) await qmp.execute("block_resize", { "node-name": node, size: bytes });
  }
}

async function openOverlay(qmp: Qmp, node: string, path: string): Promise<void> {
  const file = { driver: "file", filename: path, locking: "on", discard: "unmap" };
  const overlay = { driver: "qcow2", "node-name": node, discard: "unmap", backing: null, file };
  try {
    await qmp.execute("blockdev-add", overlay);
  } catch (error) {
    // Left by a call that a crash cut off: it is of this very file.
    if (!(error instanceof QmpError && /Duplicate nodes|already exists|in use/.test(error.message))) throw error;
  }
}

function requireDisk(active: readonly ActiveDisk[], name: string): ActiveDisk {
  const disk = active.find((each) => each.name === name);
  if (!disk) throw new BerthError("invalid_request", `The machine has no disk ${name}.`);
  return disk;
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof QmpError)) throw error;
}
