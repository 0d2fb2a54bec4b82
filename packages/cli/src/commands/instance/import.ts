import { resolve } from "node:path";
import { isId } from "@berth/api";
import { parseCpus, parseLabels, parseMebibytes } from "../../amounts.ts";
import { type Context, command, text, texts, yes } from "../../command.ts";
import { UsageError } from "../../errors.ts";
import { follow } from "../../follow.ts";
import { type PortToPublish, parsePort } from "../../ports.ts";
import { upload } from "../../upload.ts";

type Flags = {
  name?: string;
  publish?: PortToPublish[];
  label?: string[];
  cpus?: number;
  memory?: number;
  location?: string;
  noStart?: boolean;
  keep?: boolean;
};

export default command<Flags, [string]>({
  description:
    "Makes an instance of a file that berth export has written, and prints its name. Everything in the file is verified before anything is made of it. An upload that broke " +
    "off goes on when the same command is given again. FILE may also be the id of an archive that berthd still has.",
  parameters: {
    flags: {
      name: text("Its name; the one it had when not given", "NAME"),
      publish: {
        kind: "parsed",
        parse: parsePort,
        brief: "Publish this port, and none that it published before",
        placeholder: "PORT",
        optional: true,
        variadic: true,
      },
      label: texts("Add a label", "K=V"),
      cpus: {
        kind: "parsed",
        parse: parseCpus,
        brief: "CPUs, as it had when not given",
        placeholder: "N",
        optional: true,
      },
      memory: {
        kind: "parsed",
        parse: parseMebibytes,
        brief: "Memory, as it had when not given",
        placeholder: "SIZE",
        optional: true,
      },
      location: text("Where it shall run", "LOCATION"),
      noStart: yes("Do not start it"),
      keep: yes("Leave the archive on the node for a day, to be imported again"),
    },
    aliases: { p: "publish", l: "label", m: "memory" },
    positional: { kind: "tuple", parameters: [{ parse: String, brief: "The file", placeholder: "FILE" }] },
  },
  async run(context, flags, file) {
    if (file === "-") throw new UsageError("An import is read from a file, so that it can go on where it broke off.");
    const client = await context.client();
    const isThere = isId(file) && file.startsWith("arc-");
    const archive = isThere ? file : (await upload(context, resolve(context.outside.cwd, file))).id;
    const forget = () => client.deleteArchive({ params: { archive }, query: { wait: 10 } }).catch(() => undefined);
    try {
      const { operation } = await client.importInstance(
        {
          params: { archive },
          body: {
            labels: parseLabels(flags.label ?? []),
            start: !flags.noStart,
            ...(flags.name === undefined ? {} : { name: flags.name }),
            ...(flags.publish === undefined ? {} : { ports: flags.publish }),
            ...(flags.cpus === undefined ? {} : { cpus: flags.cpus }),
            ...(flags.memory === undefined ? {} : { memoryMib: flags.memory }),
            ...(flags.location === undefined ? {} : { location: flags.location }),
          },
        },
        { idempotencyKey: crypto.randomUUID() },
      );
      const { target } = await follow(context, operation);
      await sayLog(context, operation.id);
      if (!flags.keep) await forget();
      const instance = await client.getInstance({ params: { instance: target.id } });
      context.print(instance, () => `${instance.name}\n`);
    } catch (error) {
      // What is damaged would be refused again; what is not can be imported in another way without being sent again.
      if ((error as { problem?: { code?: unknown } }).problem?.code === "invalid_archive") await forget();
      throw error;
    }
  },
});

/** What of the archive could not be as it was, in berthd's words. */
async function sayLog(context: Context, operation: string): Promise<void> {
  const client = await context.client();
  const log = await new Response(await client.operationLog({ params: { operation } })).text().catch(() => "");
  for (const line of log.split("\n")) if (line) context.out.say(line);
}
