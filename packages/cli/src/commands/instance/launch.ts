import { CreateInstance, type Instance, type InstanceChange, type WarmPolicy } from "@berth/api";
import { parseCpus, parseIdle, parseLabels, parseMebibytes, parseSeconds } from "../../amounts.ts";
import { type Context, command, text, texts, yes } from "../../command.ts";
import { readEnvironment } from "../../environment.ts";
import { UsageError, UserError } from "../../errors.ts";
import { follow } from "../../follow.ts";
import { isBuildSource } from "../../image-source.ts";
import { buildAndWait } from "../../images.ts";
import { type PortToPublish, parsePort } from "../../ports.ts";
import { restart } from "../../restart-policy.ts";
import { type ScheduleFlags, scheduleFlags } from "../../snapshot-schedule.ts";
import { howItBegan } from "../../start-mode.ts";

type Flags = ScheduleFlags & {
  name?: string;
  snapshot?: string;
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
  restart?: string;
  location?: string;
  autosuspend?: { autosuspend: { idleSeconds: number } | null };
  cold?: boolean;
  warm?: WarmPolicy;
  detach?: boolean;
};

const amount = { kind: "parsed", parse: parseMebibytes, optional: true } as const;

/** `--warm` alone, or `--warm=app`. */
function parseWarm(input: string): WarmPolicy {
  if (input === "") return "require";
  if (input === "app") return "app";
  throw new SyntaxError("is written alone, or as --warm=app");
}

export default command<Flags, string[]>({
  description:
    "IMAGE is a reference (pulled when it is not here yet), an image's id, a folder with a Dockerfile written as a path (., ./web, /srv/web), or a Git URL " +
    "with one (https://host/repo.git#REF:FOLDER). What follows IMAGE is its command, as with docker run; -- keeps options of the command apart from ours. " +
    "With --snapshot there is no IMAGE: all is as it was in the snapshot but for what is given, and published ports get free host ports. " +
    "Returns when the instance is ready and prints its name.",
  usage: ["IMAGE [OPTION…] [-- CMD…]", "--snapshot NAME [OPTION…] [-- CMD…]"],
  parameters: {
    flags: {
      name: text("Its name; made up when not given", "NAME"),
      snapshot: text("Make it from a snapshot instead of an image", "NAME"),
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
      restart,
      autosuspend: {
        kind: "parsed",
        parse: parseIdle,
        brief: "Put it to sleep when nobody has needed it for so long; the next connection wakes it: 60, 10m",
        placeholder: "TIME",
        optional: true,
      },
      ...scheduleFlags,
      location: text("Where it shall run", "LOCATION"),
      cold: yes("Boot it, also when it could go on from a template's or snapshot's memory"),
      warm: {
        kind: "parsed",
        parse: parseWarm,
        brief: "Clone it from a template, made first when there is none; --warm=app: from one with its process running",
        placeholder: "app",
        inferEmpty: true,
        optional: true,
      },
      detach: yes("Do not wait until it is ready"),
    },
    aliases: { p: "publish", e: "env", m: "memory", l: "label", t: "tty", d: "detach" },
    positional: {
      kind: "array",
      parameter: {
        parse: String,
        brief: "A reference, an id, a folder or a Git URL, and then the command",
        placeholder: "IMAGE",
      },
    },
  },
  async run(context, flags, ...words) {
    const { instance, operation } = await (flags.snapshot === undefined
      ? launchImage(context, flags, words)
      : launchSnapshot(context, flags, flags.snapshot, words));
    if (flags.detach) return context.print(instance, () => `${instance.name}\n`);
    const client = await context.client();
    const made = await client.getImage({ params: { image: instance.imageId } });
    if (made.state === "building" && made.operationId) {
      await follow(context, await client.getOperation({ params: { operation: made.operationId } }));
    }
    await follow(context, operation);
    const ready = await client.getInstance({ params: { instance: instance.id } });
    if (ready.status.start) context.out.say(howItBegan(ready.status.start));
    context.print(ready, () => `${ready.name}\n`);
    if (ready.status.phase === "stopped") sayEnd(context, ready);
  },
});

/** Whoever launches a server wants to hear that it is one no more; a program that ended well has done its work. Throws a UserError for any other end. */
function sayEnd({ out }: Context, { name, status: { exitCode } }: Instance): void {
  const end = `${name} has ended already${exitCode === null ? "" : `, with exit code ${exitCode}`}`;
  const hint = `What it wrote: berth logs ${name}. Remove it: berth rm ${name}`;
  if (exitCode !== 0) throw new UserError(`${end}.`, hint);
  out.say(`${end}. ${hint}`);
}

async function launchImage(context: Context, flags: Flags, words: readonly string[]): Promise<InstanceChange> {
  const [image, ...command] = words;
  if (flags.cold && flags.warm) throw new UsageError("--cold and --warm cannot both be had.");
  if (image === undefined)
    throw new UsageError(
      "IMAGE is missing.",
      "Say what to launch: berth launch nginx, or berth launch --snapshot NAME.",
    );
  const client = await context.client();
  const body = await wishes(context, flags, command);
  const source = isBuildSource(image) ? await build(context, image, body) : image;
  const location = flags.location === undefined ? {} : { location: flags.location };
  const warm = flags.cold ? { warm: "never" as const } : flags.warm ? { warm: flags.warm } : {};
  return client.createInstance(
    { body: { image: source, ...body, ...location, ...warm } },
    { idempotencyKey: crypto.randomUUID() },
  );
}

/** Builds the image of an instance; what cannot be launched anyhow is said before minutes are spent on that. */
async function build(context: Context, source: string, body: Awaited<ReturnType<typeof wishes>>): Promise<string> {
  const read = CreateInstance.safeParse({ image: source, ...body });
  if (!read.success) {
    const [issue] = read.error.issues;
    throw new UsageError(`${issue?.path.join(".")}: ${issue?.message}`);
  }
  const { name } = body;
  const client = await context.client();
  if (name !== undefined && (await client.getInstance({ params: { instance: name } }).catch(() => undefined)))
    throw new UserError(`There is already an instance named ${name}.`, "Choose another name, or delete it first.");
  return (await buildAndWait(context, source, {})).id;
}

async function launchSnapshot(
  context: Context,
  flags: Flags,
  snapshot: string,
  words: readonly string[],
): Promise<InstanceChange> {
  if (flags.location !== undefined) throw new UsageError("An instance from a snapshot runs where the snapshot is.");
  if (flags.warm) throw new UsageError("An instance from a snapshot has another disk than any template.");
  const client = await context.client();
  const body = { ...(await wishes(context, flags, words)), ...(flags.cold ? { cold: true } : {}) };
  return client.launchSnapshot({ params: { snapshot }, body }, { idempotencyKey: crypto.randomUUID() });
}

/** What the options ask for; what they do not mention is left to berthd. */
async function wishes(context: Context, flags: Flags, words: readonly string[]) {
  const every = flags.snapshots?.every;
  if (flags.keep && !every) throw new UsageError("--keep needs --snapshots TIME: how often one is taken.");
  const env = await readEnvironment(flags.env ?? [], flags.envFile ?? [], context.outside.env);
  // As with docker, another entrypoint leaves the image's CMD out.
  const command = words.length > 0 || flags.entrypoint !== undefined ? [...words] : undefined;
  return {
    env,
    labels: parseLabels(flags.label ?? []),
    ...(flags.publish === undefined ? {} : { ports: flags.publish }),
    ...(flags.tty === undefined ? {} : { tty: flags.tty }),
    ...(flags.name === undefined ? {} : { name: flags.name }),
    ...(flags.cpus === undefined ? {} : { cpus: flags.cpus }),
    ...(flags.memory === undefined ? {} : { memoryMib: flags.memory }),
    ...(flags.disk === undefined ? {} : { diskMib: flags.disk }),
    ...(flags.entrypoint === undefined ? {} : { entrypoint: flags.entrypoint === "" ? [] : [flags.entrypoint] }),
    ...(command === undefined ? {} : { command }),
    ...(flags.stopTimeout === undefined ? {} : { stopTimeoutMs: flags.stopTimeout }),
    ...(flags.restart === undefined ? {} : { restart: flags.restart }),
    ...flags.autosuspend,
    ...(every ? { snapshots: { ...every, ...(flags.keep ? { keep: flags.keep } : {}) } } : {}),
  };
}
