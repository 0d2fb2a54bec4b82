import { join } from "node:path";
import { BerthError } from "@berth/api";
import { z } from "zod";
import { isSame } from "../core/is-same.ts";
import type { LayerRef } from "../core/layers.ts";
import { type Host, ProgramError } from "../host/host.ts";
import type { SnapshotFolders } from "./snapshot-folders.ts";

/** What a frozen file was when it was recorded. */
const Record = z.object({
  /** SHA-256 in hex. There are two while one file is put in place of another with the same content. */
  sha256: z.array(z.string().regex(/^[0-9a-f]{64}$/)).min(1),
  /** The file's stamp when it was last found to be so: nobody has touched it while that is the same. */
  stamp: z.string(),
});

/** `layers.json` of a snapshot's folder: by the file's name in it. */
const Records = z.object({ version: z.literal(1), files: z.record(z.string(), Record) });
type Files = z.infer<typeof Records>["files"];

const fileName = "layers.json";
const maxRecordBytes = 1024 * 1024;
/** Reading a large layer may take long; a disk that gives less than 10 MB a second is broken. */
const sumTimeoutMs = 6 * 3_600_000;

/** Records the checksum of each file of a snapshot's folder, or `only` of one; what is recorded already stays. `onFile` hears of each before it is read. */
export async function recordLayers(
  host: Host,
  folders: SnapshotFolders,
  folder: string,
  options: { readonly signal: AbortSignal; readonly only?: string; readonly onFile?: (file: string) => void },
): Promise<void> {
  const known = await readRecords(host, folders, folder);
  const files: Files = {};
  for (const file of options.only ? [options.only] : await folders.filesOf(folder)) {
    if (known[file]) continue;
    options.onFile?.(file);
    const path = join(folders.path(folder), file);
    const stamp = await stampOf(host, path);
    files[file] = { sha256: [await sumOf(host, path, options.signal)], stamp };
  }
  await writeRecords(host, folders, folder, (present) => ({ ...files, ...present }));
}

/** Whether every file of a folder is recorded. */
export async function isRecorded(host: Host, folders: SnapshotFolders, folder: string): Promise<boolean> {
  const records = await readRecords(host, folders, folder);
  return (await folders.filesOf(folder)).every((file) => records[file]);
}

/** How carefully a file is looked at: `touched` reads it only when its stamp is not the recorded one, `all` always. */
export type Care = "touched" | "all";

/**
 * Why a file of a snapshot's folder is not what it was, in words; undefined when it is. One that was never recorded only has to be there.
 */
export async function findDamage(
  host: Host,
  folders: SnapshotFolders,
  { folder, file }: { readonly folder: string; readonly file: string },
  care: Care,
  signal: AbortSignal,
): Promise<string | undefined> {
  const path = join(folders.path(folder), file);
  const facts = await host.files.facts(path);
  if (!facts?.isPlain) return "it is gone";
  const record = (await readRecords(host, folders, folder))[file];
  if (!record) return undefined;
  if (care === "touched" && facts.stamp === record.stamp) return undefined;
  if (!record.sha256.includes(await sumOf(host, path, signal))) {
    // Another file may have been put in its place meanwhile.
    const now = (await readRecords(host, folders, folder))[file];
    if (now && !isSame(now.sha256, record.sha256)) return findDamage(host, folders, { folder, file }, care, signal);
    return "its checksum is not the recorded one";
  }
  if (facts.stamp !== record.stamp) {
    const touched = { ...record, stamp: facts.stamp };
    await writeRecords(host, folders, folder, (present) =>
      isSame(present[file], record) ? { ...present, [file]: touched } : present,
    );
  }
  return undefined;
}

/**
 * Puts a file in the place of a recorded one that shows the same, and its checksum in the place of that one's. To be called alone. The former file has another name from
 * then on. Whatever cuts it short, the record fits the file that is there.
 */
export async function replaceLayer(
  host: Host,
  folders: SnapshotFolders,
  {
    ref,
    sha256,
    pass,
  }: {
    readonly ref: LayerRef;
    /** Of what is at `halfPath`. */
    readonly sha256: string;
    /** Called when both files are there, and when the one has just taken the place of the other. */
    readonly pass: (side: "before" | "after") => Promise<void>;
  },
): Promise<void> {
  const { folder } = ref;
  const file = folders.fileOf(ref);
  const path = folders.layerPath(ref);
  const record = (await readRecords(host, folders, folder))[file];
  if (!record) throw new Error(`${path} is not recorded`);
  const either = { ...record, sha256: [...record.sha256, sha256] };
  await rewriteRecords(host, folders, folder, (present) => ({ ...present, [file]: either }));
  await host.files.link(path, folders.newReplacedPath(ref));
  await pass("before");
  await host.files.rename(folders.halfPath(ref), path);
  await host.files.sync(folders.path(folder));
  await pass("after");
  const now = { sha256: [sha256], stamp: await stampOf(host, path) };
  await rewriteRecords(host, folders, folder, (present) => ({ ...present, [file]: now }));
}

/** qemu-img(1), check: "image has leaked clusters, but is not corrupted". */
const leaksOnly = 3;

/** Asks QEMU's own tool whether an image is sound: its last words when it is not. It runs as a user who can reach nothing else. */
export async function checkImage(
  host: Host,
  folders: SnapshotFolders,
  ref: LayerRef,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const args = ["check", "-q", "-U", "-f", "qcow2", folders.layerPath(ref)];
    await host.run("qemu-img", args, { ...folders.user, signal, timeoutMs: sumTimeoutMs });
    return undefined;
  } catch (error) {
    if (!(error instanceof ProgramError) || error.reason !== "exit") throw error;
    // Clusters that nothing refers to any more cost space and harm nothing.
    return error.exitCode === leaksOnly ? undefined : error.message;
  }
}

async function readRecords(host: Host, folders: SnapshotFolders, folder: string): Promise<Files> {
  const text = await host.files.readText(join(folders.path(folder), fileName), maxRecordBytes);
  return text === undefined ? {} : Records.parse(JSON.parse(text)).files;
}

/** Changes what is recorded. Nothing happens when the folder is gone. */
async function writeRecords(
  host: Host,
  folders: SnapshotFolders,
  folder: string,
  change: (present: Files) => Files,
): Promise<void> {
  await folders.alone(async () => {
    if (await host.files.exists(folders.path(folder))) await rewriteRecords(host, folders, folder, change);
  });
}

/** The same, for who is alone already. */
async function rewriteRecords(
  host: Host,
  folders: SnapshotFolders,
  folder: string,
  change: (present: Files) => Files,
): Promise<void> {
  const files = change(await readRecords(host, folders, folder));
  const text = `${JSON.stringify({ version: 1, files })}\n`;
  await host.files.writeAtomic(join(folders.path(folder), fileName), text, { mode: 0o600 });
}

async function stampOf(host: Host, path: string): Promise<string> {
  const facts = await host.files.facts(path);
  if (!facts) throw new BerthError("snapshot_damaged", `${path} is gone.`);
  return facts.stamp;
}

export async function sumOf(host: Host, path: string, signal: AbortSignal): Promise<string> {
  const { stdout } = await host.run("sha256sum", ["--binary", "--", path], { signal, timeoutMs: sumTimeoutMs });
  const sum = /^\\?([0-9a-f]{64}) /.exec(stdout)?.[1];
  if (!sum) throw new Error(`sha256sum said ${stdout.slice(0, 200)}`);
  return sum;
}
