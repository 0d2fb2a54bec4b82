import { once } from "node:events";
import { createReadStream } from "node:fs";
import { lstat, readdir, readlink, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, posix, resolve } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Client } from "@berth/api";
import tar from "tar-stream";
import type { Context } from "./command.ts";
import { UsageError, UserError } from "./errors.ts";
import { type Copied, extractInto } from "./extract.ts";

interface GuestPlace {
  readonly instance: string;
  readonly path: string;
}

/** Copies a file or folder of a guest to a path here, or as an archive to standard output. */
export async function copyOut(context: Context, from: GuestPlace, target: string): Promise<Copied | undefined> {
  const client = await context.client();
  const { stdout } = context.outside;
  if (target === "-" && stdout.isTTY)
    throw new UsageError("An archive is not for a terminal.", "Send it into a file or a pipe.");
  const contents = from.path.endsWith("/.");
  const path = posix.normalize(from.path).replace(/(.)\/$/, "$1");
  const archive = await client.readFiles({ params: { instance: from.instance }, query: { path } });
  if (target === "-") {
    for await (const chunk of archive) if (!stdout.write(chunk)) await once(stdout, "drain");
    return undefined;
  }
  const local = resolve(context.outside.cwd, target);
  const facts = await stat(local).catch(() => undefined);
  const needed = target.endsWith("/") ? target : dirname(target);
  if (!facts && !(await stat(resolve(context.outside.cwd, needed)).catch(() => undefined))?.isDirectory())
    throw new UserError(`There is no folder ${needed}.`, `Make it first: mkdir -p ${needed}`);
  const folder = facts?.isDirectory() ? await realpath(local) : undefined;
  const into = folder && !contents && path !== "/" ? join(folder, posix.basename(path)) : (folder ?? local);
  return extractInto(into, archive);
}

/** Copies a file or folder of this machine, or an archive from standard input, into a guest. */
export async function copyIn(context: Context, source: string, to: GuestPlace): Promise<Copied | undefined> {
  const client = await context.client();
  if (source === "-") {
    await client.writeFiles({
      params: { instance: to.instance },
      query: { path: posix.normalize(to.path) },
      body: context.outside.stdin,
    });
    return undefined;
  }
  const contents = /(^|\/)\.$/.test(source) && source !== ".";
  const local = resolve(context.outside.cwd, source);
  const facts = await stat(local).catch(() => undefined);
  if (!facts) throw new UserError(`There is no ${source} here.`);
  if (contents && !facts.isDirectory()) throw new UserError(`${source} is not a folder.`);
  const path = posix.normalize(to.path).replace(/(.)\/$/, "$1");
  const there = await kindOf(client, to.instance, path);
  if (there !== "folder" && to.path.endsWith("/") && !facts.isDirectory())
    throw new UserError(`There is no folder ${path} in ${to.instance}.`);
  if (there === "file" && facts.isDirectory())
    throw new UserError(`${path} in ${to.instance} is a file, not a folder.`);
  const place =
    there === "folder"
      ? { folder: path, name: contents ? "." : basename(local) }
      : { folder: posix.dirname(path), name: posix.basename(path) };
  const copied: Copied = { files: 0, bytes: 0, skipped: [] };
  await client.writeFiles({
    params: { instance: to.instance },
    query: { path: place.folder },
    body: archiveOf(local, place.name, copied),
  });
  return copied;
}

/** What there is at a path of a guest, by the first entry of its archive; the rest is not read. */
async function kindOf(client: Client, instance: string, path: string): Promise<"file" | "folder" | undefined> {
  const leave = new AbortController();
  const archive = await client
    .readFiles({ params: { instance }, query: { path } }, { signal: leave.signal })
    .catch((error) => {
      if ((error as { code?: unknown }).code === "path_not_found") return undefined;
      throw error;
    });
  if (!archive) return undefined;
  const extract = tar.extract();
  const read = pipeline(Readable.from(archive), extract).catch(() => {});
  const kind = await new Promise<"file" | "folder">((answer, reject) => {
    extract.once("entry", (header) => answer(header.type === "directory" ? "folder" : "file"));
    extract.once("error", reject);
    extract.once("finish", () => reject(new UserError(`The archive of ${path} in ${instance} is empty.`)));
  });
  extract.destroy();
  leave.abort();
  await read;
  return kind;
}

/** The archive of a file or folder under another name. Everything belongs to root, as docker cp has it. */
async function* archiveOf(path: string, name: string, copied: Copied): AsyncGenerator<Uint8Array, void> {
  const pack = tar.pack();
  const packed = packAll(pack, path, name, copied).then(
    () => pack.finalize(),
    (error: Error) => pack.destroy(error),
  );
  yield* pack as unknown as AsyncIterable<Uint8Array>;
  await packed;
}

async function packAll(pack: tar.Pack, path: string, name: string, copied: Copied): Promise<void> {
  // What was named itself may be a link to what is meant; links further in stay links.
  const top = await stat(path);
  await packOne(pack, path, name, top, copied);
}

async function packOne(
  pack: tar.Pack,
  path: string,
  name: string,
  facts: Awaited<ReturnType<typeof stat>>,
  copied: Copied,
): Promise<void> {
  const header = { name, mode: Number(facts.mode) & 0o7777, mtime: facts.mtime, uid: 0, gid: 0 };
  if (facts.isDirectory()) {
    pack.entry({ ...header, name: `${name}/`, type: "directory" });
    for (const child of (await readdir(path)).sort()) {
      const inner = join(path, child);
      await packOne(pack, inner, `${name}/${child}`, await lstat(inner), copied);
    }
  } else if (facts.isSymbolicLink()) {
    pack.entry({ ...header, type: "symlink", linkname: await readlink(path) });
    copied.files += 1;
  } else if (facts.isFile()) {
    const size = Number(facts.size);
    // A file that grows meanwhile is cut at the size that was announced.
    const content = size > 0 ? createReadStream(path, { end: size - 1 }) : Readable.from([]);
    await pipeline(content, pack.entry({ ...header, type: "file", size }));
    copied.files += 1;
    copied.bytes += size;
  } else {
    copied.skipped.push(`${path} is neither a file, a folder nor a link`);
  }
}
