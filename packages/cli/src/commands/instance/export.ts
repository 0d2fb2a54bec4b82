import { resolve } from "node:path";
import { type Archive, type Client, isId } from "@berth/api";
import { sizeOf } from "../../archive-file.ts";
import { type Context, command, instanceArgument, text, yes } from "../../command.ts";
import { archiveOfPart, download, partOf } from "../../download.ts";
import { UserError } from "../../errors.ts";
import { follow } from "../../follow.ts";
import { bytes } from "../../text.ts";

type Flags = { output?: string; withoutEnv?: boolean; keep?: boolean; force?: boolean };

export default command<Flags, [string]>({
  description:
    "Writes an instance that is off into one file: its disks, its spec and checksums. The file may hold secrets: what is on the disks, and its own environment unless " +
    "--without-env is given. A download that broke off goes on when the same command is given again. NAME may also be the id of an archive that berthd still has.",
  parameters: {
    flags: {
      output: text("The file to write; NAME.berth when not given", "FILE"),
      withoutEnv: yes("Leave its own environment variables out"),
      keep: yes("Leave the archive on the node for a day, to be fetched again"),
      force: yes("Overwrite the file"),
    },
    aliases: { o: "output", f: "force" },
    positional: { kind: "tuple", parameters: [instanceArgument] },
  },
  async run(context, flags, name) {
    const client = await context.client();
    const { archive, file, goOn } = await prepare(context, client, flags, name);
    await download(context, archive, file, goOn);
    // What cannot be deleted now goes by itself in a day.
    const gone = { params: { archive: archive.id }, query: { wait: 10 } };
    if (!flags.keep) await client.deleteArchive(gone).catch(() => undefined);
    context.print({ file, sizeBytes: archive.sizeBytes, archive }, () => `${file}\n`);
  },
});

async function prepare(context: Context, client: Client, flags: Flags, name: string) {
  const place = (fileName: string) => resolve(context.outside.cwd, flags.output ?? fileName);
  if (isId(name) && name.startsWith("arc-")) {
    const archive = await client.getArchive({ params: { archive: name } });
    const file = place(archive.name);
    await refuseThere(file, flags);
    return { archive, file, goOn: false };
  }
  const instance = await client.getInstance({ params: { instance: name } });
  const file = place(`${instance.name}.berth`);
  await refuseThere(file, flags);
  const environment = !flags.withoutEnv;
  const begun = await archiveOfPart(client, file, instance, environment);
  if (begun) {
    context.out.say(`Going on with ${partOf(file)}, of which ${bytes((await sizeOf(partOf(file))) ?? 0)} are here.`);
    return { archive: begun, file, goOn: true };
  }
  const change = await client.exportInstance(
    { params: { instance: instance.id }, query: { environment } },
    { idempotencyKey: crypto.randomUUID() },
  );
  await follow(context, change.operation);
  const archive: Archive = await client.getArchive({ params: { archive: change.archive.id } });
  return { archive, file, goOn: false };
}

async function refuseThere(file: string, flags: Flags): Promise<void> {
  if (flags.force || (await sizeOf(file)) === undefined) return;
  throw new UserError(`${file} is there already.`, "Name another file with -o, or overwrite it with --force.");
}
