import { parseCpus, parseLabels, parseMebibytes, parseSeconds } from "../../amounts.ts";
import { command, text, texts, yes } from "../../command.ts";
import { readEnvironment } from "../../environment.ts";
import { UsageError } from "../../errors.ts";
import { follow } from "../../follow.ts";
import { isBuildSource } from "../../image-source.ts";
import { buildAndWait } from "../../images.ts";
import { type PortToPublish, parsePort } from "../../ports.ts";
import { howItBegan } from "../../start-mode.ts";

type Flags = {
  name?: string;
  publish?: PortToPublish[];
  env?: string[];
  envFile?: string[];
  cpus?: number;
  memory?: number;
  disk?: number;
  label?: string[];
  entrypoint?: string;
  tty?: boolean;
  stopTimeout?: number;
  location?: string;
  cold?: boolean;
  warm?: boolean;
  detach?: boolean;
};

const amount = { kind: "parsed", parse: parseMebibytes, optional: true } as const;

export default command<Flags, [string, ...string[]]>({
  description:
    "IMAGE is a reference (pulled when it is not here yet), an image's id, a folder with a Dockerfile written as a path (., ./web, /srv/web), or a Git URL " +
    "with one (https://host/repo.git#REF:FOLDER). What follows IMAGE is its command, as with docker run; -- keeps options of the command apart from ours. " +
    "Returns when the instance is ready and prints its name.",
  usage: ["IMAGE [OPTION…] [-- CMD…]"],
  parameters: {
    flags: {
      name: text("Its name; made up when not given", "NAME"),
      publish: {
        kind: "parsed",
        parse: parsePort,
        brief: "Publish a port: 80, 8080:80, 127.0.0.1:8080:80, 53:53/udp",
        placeholder: "PORT",
        optional: true,
        variadic: true,
      },
      env: texts("Set a variable: K=V, or K for your own value", "K=V"),
      envFile: texts("Read variables from a file", "FILE"),
      cpus: { kind: "parsed", parse: parseCpus, brief: "CPUs, 1 when not given", placeholder: "N", optional: true },
      memory: { ...amount, brief: "Memory, 512M when not given", placeholder: "SIZE" },
      disk: { ...amount, brief: "The root disk's size", placeholder: "SIZE" },
      label: texts("Add a label", "K=V"),
      entrypoint: text("Run this instead of the image's ENTRYPOINT", "PROGRAM"),
      tty: yes("Give the process a terminal"),
      stopTimeout: {
        kind: "parsed",
        parse: parseSeconds,
        brief: "How long a stop waits before the power is cut, 10 when not given",
        placeholder: "SECONDS",
        optional: true,
      },
      location: text("Where it shall run", "LOCATION"),
      cold: yes("Boot it, also when it could be cloned from a template"),
      warm: yes("Clone it from a template, which is made first when there is none"),
      detach: yes("Do not wait until it is ready"),
    },
    aliases: { p: "publish", e: "env", m: "memory", l: "label", t: "tty", d: "detach" },
    positional: {
      kind: "array",
      minimum: 1,
      parameter: {
        parse: String,
        brief: "A reference, an id, a folder or a Git URL, and then the command",
        placeholder: "IMAGE",
      },
    } as never,
  },
  async run(context, flags, image, ...words) {
    if (flags.cold && flags.warm) throw new UsageError("--cold and --warm cannot both be had.");
    const client = await context.client();
    const env = await readEnvironment(flags.env ?? [], flags.envFile ?? [], context.outside.env);
    const source = isBuildSource(image) ? (await buildAndWait(context, image, {})).id : image;
    // As with docker, another entrypoint leaves the image's CMD out.
    const command = words.length > 0 || flags.entrypoint !== undefined ? words : undefined;
    const { instance, operation } = await client.createInstance(
      {
        body: {
          image: source,
          env,
          ports: flags.publish ?? [],
          labels: parseLabels(flags.label ?? []),
          tty: flags.tty ?? false,
          ...(flags.cold ? { warm: "never" } : flags.warm ? { warm: "require" } : {}),
          ...(flags.name === undefined ? {} : { name: flags.name }),
          ...(flags.cpus === undefined ? {} : { cpus: flags.cpus }),
          ...(flags.memory === undefined ? {} : { memoryMib: flags.memory }),
          ...(flags.disk === undefined ? {} : { diskMib: flags.disk }),
          ...(flags.entrypoint === undefined ? {} : { entrypoint: flags.entrypoint === "" ? [] : [flags.entrypoint] }),
          ...(command === undefined ? {} : { command }),
          ...(flags.stopTimeout === undefined ? {} : { stopTimeoutMs: flags.stopTimeout }),
          ...(flags.location === undefined ? {} : { location: flags.location }),
        },
      },
      { idempotencyKey: crypto.randomUUID() },
    );
    if (flags.detach) return context.print(instance, () => `${instance.name}\n`);
    const made = await client.getImage({ params: { image: instance.imageId } });
    if (made.state === "building" && made.operationId) {
      await follow(context, await client.getOperation({ params: { operation: made.operationId } }));
    }
    await follow(context, operation);
    const ready = await client.getInstance({ params: { instance: instance.id } });
    if (ready.status.start) context.out.say(howItBegan(ready.status.start));
    context.print(ready, () => `${ready.name}\n`);
  },
});
