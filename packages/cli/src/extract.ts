import { constants } from "node:fs";
import { link, lstat, mkdir, open, rm, symlink, utimes } from "node:fs/promises";
import { dirname, join, resolve, sep } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import tar from "tar-stream";
import { UserError } from "./errors.ts";

type Entry = Readable & { readonly header: tar.Header };

/** What a copy did. `skipped` says of each entry that was left out why. */
export interface Copied {
  files: number;
  bytes: number;
  readonly skipped: string[];
}

/** How careful the extraction is; less only to prove that the care is needed. */
export interface Care {
  readonly checkPaths: boolean;
  readonly checkLinks: boolean;
}

const fullCare: Care = { checkPaths: true, checkLinks: true };

/**
 * Unpacks the archive of one file or folder so that it becomes `target`: the first part of each entry's name is replaced by it. The archive comes from a guest
 * and is not trusted: nothing is written but `target` and what is inside it, through no link, and without set-id bits.
 */
export async function extractInto(
  target: string,
  archive: AsyncIterable<Uint8Array>,
  care: Care = fullCare,
): Promise<Copied> {
  const copied: Copied = { files: 0, bytes: 0, skipped: [] };
  const extract = tar.extract();
  const reading = pipeline(Readable.from(archive), extract);
  // The loop below is told of the same failure.
  reading.catch(() => {});
  const folders: { path: string; mtime: Date | undefined; mode: number }[] = [];
  for await (const source of extract) {
    const entry = source as unknown as Entry;
    const path = placeOf(target, entry.header.name, care);
    if (care.checkLinks) await refuseLinksOnTheWay(target, path);
    if (entry.header.type === "directory") {
      await makeFolder(path);
      folders.push({ path, mtime: entry.header.mtime, mode: modeOf(entry.header.mode, 0o755) });
      entry.resume();
    } else {
      await writeEntry(target, path, entry, copied, care);
    }
  }
  await reading;
  // Only now, since each file that is written changes its folder, and a folder may be read-only.
  for (const { path, mtime, mode } of folders.reverse()) {
    await changeFolder(path, mode);
    if (mtime) await utimes(path, mtime, mtime);
  }
  return copied;
}

/** Where an entry goes. Its name must stay below the archive's root. */
function placeOf(target: string, name: string, care: Care): string {
  const parts = name.split("/").filter((part) => part !== "");
  // `./a/b` as some write it, or `root/a/b`: either way the first part stands for what was asked for.
  const inner = parts.slice(1);
  const suspicious = name.startsWith("/") || name.includes("\0") || parts.includes("..") || inner.includes(".");
  if (care.checkPaths && suspicious)
    throw new UserError(
      `The guest's archive names ${JSON.stringify(name)}, which leads out of its folder. Nothing more was copied.`,
    );
  return join(target, ...inner);
}

/** Every folder between target and entry must be a real one: a link there would lead the write somewhere else. */
async function refuseLinksOnTheWay(target: string, path: string): Promise<void> {
  for (let folder = dirname(path); isWithin(target, folder); folder = dirname(folder)) {
    const facts = await lstat(folder).catch(() => undefined);
    if (facts && !facts.isDirectory()) {
      throw new UserError(`The guest's archive writes through ${folder}, which is no folder. Nothing more was copied.`);
    }
  }
}

/** A folder is never put in the place of something else: what is lost then is not what was asked to be copied over. */
async function makeFolder(path: string): Promise<void> {
  const facts = await lstat(path).catch(() => undefined);
  if (facts && !facts.isDirectory()) throw new UserError(`${path} is no folder; the guest has one there.`);
  await mkdir(path, { recursive: true });
}

async function changeFolder(path: string, mode: number): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    await folder.chmod(mode);
  } finally {
    await folder.close();
  }
}

async function writeEntry(target: string, path: string, entry: Entry, copied: Copied, care: Care): Promise<void> {
  const { header } = entry;
  await mkdir(dirname(path), { recursive: true });
  if (header.type === "file" || header.type === "contiguous-file") {
    await removeFile(path);
    await writeFile(path, entry, care);
    copied.files += 1;
    copied.bytes += header.size ?? 0;
    return;
  }
  entry.resume();
  if (header.type === "symlink" && header.linkname) {
    const leads = resolve(dirname(path), header.linkname);
    if (care.checkLinks && (climbsLater(header.linkname) || !isWithin(target, leads))) {
      copied.skipped.push(`${header.name}: a link to ${header.linkname}, which leads out of the copy, or may`);
      return;
    }
    await removeFile(path);
    await symlink(header.linkname, path);
    copied.files += 1;
  } else if (header.type === "link" && header.linkname) {
    const first = placeOf(target, header.linkname, care);
    if (care.checkLinks) await refuseLinksOnTheWay(target, first);
    const facts = await lstat(first).catch(() => undefined);
    if (care.checkLinks && !facts?.isFile())
      throw new UserError(
        `The guest's archive has a hard link to ${JSON.stringify(header.linkname)}, which is no file of it.`,
      );
    await removeFile(path);
    await link(first, path);
    copied.files += 1;
  } else {
    copied.skipped.push(`${header.name}: a ${header.type}, which is not copied`);
  }
}

/** Whether a link has `..` behind a name: where that leads depends on what the name is, which may be another link. At the beginning it climbs from real folders only. */
function climbsLater(link: string): boolean {
  const parts = link.split("/").filter((part) => part !== "" && part !== ".");
  const first = parts.findIndex((part) => part !== "..");
  return first >= 0 && parts.slice(first).includes("..");
}

function isWithin(target: string, path: string): boolean {
  return path === target || path.startsWith(target + sep);
}

/** Makes room for an entry: what is there is replaced, not written into; a folder is not. */
async function removeFile(path: string): Promise<void> {
  const facts = await lstat(path).catch(() => undefined);
  if (facts?.isDirectory()) throw new UserError(`${path} is a folder; the guest has something else there.`);
  if (facts) await rm(path);
}

async function writeFile(path: string, entry: Entry, care: Care): Promise<void> {
  const own = care.checkLinks ? constants.O_EXCL | constants.O_NOFOLLOW : 0;
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT | own, 0o600);
  try {
    await file.writeFile(entry);
    await file.chmod(modeOf(entry.header.mode, 0o644));
    if (entry.header.mtime) await file.utimes(entry.header.mtime, entry.header.mtime);
  } finally {
    await file.close();
  }
}

/** The permission bits, never the set-id and sticky ones. */
function modeOf(mode: number | undefined, otherwise: number): number {
  return (mode ?? otherwise) & 0o777;
}
