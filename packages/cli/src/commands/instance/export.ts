import { access, constants, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { type Archive, type CallOptions, type Client, isId } from "@berth/api";
import { sizeOf } from "../../archive-file.ts";
import { type Context, command, instanceArgument, text, yes } from "../../command.ts";
import { archiveOfPart, download, partOf } from "../../download.ts";
import { UsageError, UserError } from "../../errors.ts";
import { follow } from "../../follow.ts";
import { bytes } from "../../text.ts";

type Flags = { snapshot?: boolean; output?: string; withoutEnv?: boolean; keep?: boolean; force?: boolean };

export default command<Flags, [string]>({
  description:
    "Writes an instance that is off into one file: its disks, its spec and checksums. The file may hold secrets: what is on the disks, and its own environment unless " +
    "--without-env is given. A download that broke off goes on when the same command is given again. NAME may also be the id of a snapshot, or of an archive that " +
    "berthd still has.",
  parameters: {
    flags: {
      snapshot: yes("NAME is a snapshot's"),
      output: text("The file to write, or the folder for it; NAME.berth here when not given", "FILE"),
      withoutEnv: yes("Leave its own environment variables out"),
      keep: yes("Leave the archive on the node for a day, to be fetched again"),
      force: yes("Overwrite the file"),
    },
    aliases: { o: "output", f: "force" },
    positional: { kind: "tuple", parameters: [instanceArgument] },
  },
  async run(context, flags, name) {
    if (flags.output === "-")
      throw new UsageError(
        "An export is written into a file, so that it can go on where it broke off: name one with -o.",
      );
    const client = await context.client();
    const { archive, file, goOn } = await prepare(context, client, flags, name);
    await download(context, archive, file, goOn);
    // What cannot be deleted now goes by itself in a day.
    const gone = { params: { archive: archive.id }, query: { wait: 10 } };
    if (!flags.keep) await client.deleteArchive(gone).catch(() => undefined);
    context.print({ file, sizeBytes: archive.sizeBytes, archive }, () => `${file}\n`);
  },
});

interface Prepared {
  readonly archive: Archive;
  readonly file: string;
  /** Whether what is here of it already is gone on with. */
  readonly goOn: boolean;
}

async function prepare(context: Context, client: Client, flags: Flags, name: string): Promise<Prepared> {
  const place = async (fileName: string) => {
    const output = resolve(context.outside.cwd, flags.output ?? "");
    return (await isFolder(output)) ? join(output, fileName) : output;
  };
  if (hasPrefix(name, "arc")) {
    const archive = await client.getArchive({ params: { archive: name } });
    const file = await place(archive.name);
    await refuseThere(file, flags);
    return { archive, file, goOn: false };
  }
  const what =
    flags.snapshot || hasPrefix(name, "snap") ? await snapshotOf(client, name) : await instanceOf(client, name);
  const file = await place(`${what.name}.berth`);
  await refuseThere(file, flags);
  const environment = !flags.withoutEnv;
  const begun = await archiveOfPart(client, file, { ...what, environment });
  if (begun) {
    context.out.say(`Going on with ${partOf(file)}, of which ${bytes((await sizeOf(partOf(file))) ?? 0)} are here.`);
    return { archive: begun, file, goOn: true };
  }
  const change = await what.begin({ environment }, { idempotencyKey: crypto.randomUUID() });
  await follow(context, change.operation);
  const archive = await client.getArchive({ params: { archive: change.archive.id } });
  return { archive, file, goOn: false };
}

function hasPrefix(name: string, prefix: string): boolean {
  return isId(name) && name.startsWith(`${prefix}-`);
}

async function instanceOf(client: Client, ref: string) {
  const { id, name, status, createdAt } = await client.getInstance({ params: { instance: ref } });
  return {
    id,
    name,
    since: status.startedAt ?? createdAt,
    begin: (query: { environment: boolean }, options: CallOptions) =>
      client.exportInstance({ params: { instance: id }, query }, options),
  };
}

async function snapshotOf(client: Client, ref: string) {
  const { id, name, createdAt } = await client.getSnapshot({ params: { snapshot: ref } });
  return {
    id,
    name,
    since: createdAt,
    begin: (query: { environment: boolean }, options: CallOptions) =>
      client.exportSnapshot({ params: { snapshot: id }, query }, options),
  };
}

/** Before anything is written for it. */
async function refuseThere(file: string, flags: Flags): Promise<void> {
  await access(dirname(file), constants.W_OK | constants.X_OK);
  if (flags.force || (await sizeOf(file)) === undefined) return;
  throw new UserError(`${file} is there already.`, "Name another file with -o, or overwrite it with --force.");
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}
