import type { ChangeEffect, ChangeInstanceInput } from "@berth/api";
import { parseCpus, parseIdle, parseLabels, parseMebibytes, parseSeconds } from "../../amounts.ts";
import { command, instanceArgument, text, texts, yes } from "../../command.ts";
import { readEnvironment } from "../../environment.ts";
import { UsageError } from "../../errors.ts";
import { follow } from "../../follow.ts";
import { type PortToPublish, parsePort, portsAfter } from "../../ports.ts";
import { restart } from "../../restart-policy.ts";
import { type ScheduleFlags, scheduleFlags, scheduleOf } from "../../snapshot-schedule.ts";
import { facts } from "../../text.ts";

type Flags = ScheduleFlags & {
  name?: string;
  cpus?: number;
  memory?: number;
  disk?: number;
  env?: string[];
  envFile?: string[];
  unsetEnv?: string[];
  publish?: PortToPublish[];
  unpublish?: PortToPublish[];
  label?: string[];
  unsetLabel?: string[];
  entrypoint?: string;
  tty?: boolean;
  stopTimeout?: number;
  restart?: string;
  autosuspend?: { autosuspend: { idleSeconds: number } | null };
  restartNow?: boolean;
};

const port = { kind: "parsed", parse: parsePort, placeholder: "PORT", optional: true, variadic: true } as const;

const when: Readonly<Record<ChangeEffect["takes"], string>> = {
  live: "now",
  restart: "at the next start",
  rebuild: "at the next rebuild",
};

export default command<Flags, [string, ...string[]]>({
  description:
    "Says for each change when it holds: now, or at the next start. What follows NAME is its new command; -- keeps options of the command apart from ours.",
  usage: ["NAME [OPTION…] [-- CMD…]"],
  parameters: {
    flags: {
      name: text("Another name", "NAME"),
      cpus: { kind: "parsed", parse: parseCpus, brief: "CPUs", placeholder: "N", optional: true },
      memory: { kind: "parsed", parse: parseMebibytes, brief: "Memory", placeholder: "SIZE", optional: true },
      disk: {
        kind: "parsed",
        parse: parseMebibytes,
        brief: "The root disk's size, which only grows",
        placeholder: "SIZE",
        optional: true,
      },
      env: texts("Set a variable: K=V, or K for your own value", "K=V"),
      envFile: texts("Set variables from a file", "FILE"),
      unsetEnv: texts("Take a variable away", "K"),
      publish: { ...port, brief: "Publish a port: 80, 8080:80, 127.0.0.1:8080:80, 53:53/udp" },
      unpublish: { ...port, brief: "Publish a port no more: 80, 8080:80, 53/udp" },
      label: texts("Set a label", "K=V"),
      unsetLabel: texts("Take a label away", "K"),
      entrypoint: text("Run this instead of the image's ENTRYPOINT", "PROGRAM"),
      tty: { kind: "boolean", brief: "Give the process a terminal, or take it away", optional: true },
      stopTimeout: {
        kind: "parsed",
        parse: parseSeconds,
        brief: "How long a stop waits before the power is cut",
        placeholder: "SECONDS",
        optional: true,
      },
      restart,
      autosuspend: {
        kind: "parsed",
        parse: parseIdle,
        brief: "Put it to sleep when nobody has needed it for so long: 60, 10m; or off",
        placeholder: "TIME",
        optional: true,
      },
      ...scheduleFlags,
      restartNow: yes("Restart it, when it runs and a change needs that"),
    },
    aliases: { p: "publish", e: "env", m: "memory", l: "label" },
    positional: {
      kind: "array",
      minimum: 1,
      parameter: { ...instanceArgument, brief: "An instance's name or id, and then its new command" },
    } as never,
  },
  async run(context, flags, name, ...words) {
    const client = await context.client();
    const env = await readEnvironment(flags.env ?? [], flags.envFile ?? [], context.outside.env);
    const snapshots = scheduleOf(flags);
    const asked: ChangeInstanceInput = {
      ...(flags.name === undefined ? {} : { name: flags.name }),
      ...(flags.cpus === undefined ? {} : { cpus: flags.cpus }),
      ...(flags.memory === undefined ? {} : { memoryMib: flags.memory }),
      ...(flags.disk === undefined ? {} : { diskMib: flags.disk }),
      ...patch("env", env, flags.unsetEnv),
      ...patch("labels", parseLabels(flags.label ?? []), flags.unsetLabel),
      ...(flags.entrypoint === undefined ? {} : { entrypoint: flags.entrypoint === "" ? [] : [flags.entrypoint] }),
      ...(words.length === 0 ? {} : { command: words }),
      ...(flags.tty === undefined ? {} : { tty: flags.tty }),
      ...(flags.stopTimeout === undefined ? {} : { stopTimeoutMs: flags.stopTimeout }),
      ...(flags.restart === undefined ? {} : { restart: flags.restart }),
      ...flags.autosuspend,
      ...(snapshots === undefined ? {} : { snapshots }),
    };
    // A list is replaced as a whole, so it must not have changed since it was read.
    let ifMatch: number | undefined;
    if (flags.publish || flags.unpublish) {
      const { spec, generation } = await client.getInstance({ params: { instance: name } });
      asked.ports = portsAfter(spec.ports, flags.publish ?? [], flags.unpublish ?? []);
      ifMatch = generation;
    }
    if (Object.keys(asked).length === 0) {
      const hint = flags.restartNow ? "What was changed before holds after a restart: berth restart." : "";
      throw new UsageError("Say what to change, such as --memory 1G.", hint);
    }
    const options = { idempotencyKey: crypto.randomUUID(), ...(ifMatch === undefined ? {} : { ifMatch }) };
    const changed = await client.changeInstance({ params: { instance: name }, body: asked }, options);
    const { effects, instance } = changed;
    let operation = await follow(context, changed.operation);
    const params = { instance: instance.id };
    const runs = ["running", "starting"].includes((await client.getInstance({ params })).status.phase);
    const restarts = (flags.restartNow ?? false) && runs && effects.some(({ takes }) => takes === "restart");
    if (restarts) {
      const restarted = await client.restartInstance({ params }, { idempotencyKey: crypto.randomUUID() });
      operation = await follow(context, restarted.operation);
    }
    context.print({ instance: await client.getInstance({ params }), operation, effects }, () =>
      effects.length === 0
        ? "nothing to change\n"
        : facts(effects.map(({ field, takes }) => [field, restarts ? when.live : when[takes]])),
    );
  },
});

/** A JSON merge patch of texts: those set, and those taken away. */
function patch(field: "env" | "labels", set: Readonly<Record<string, string>>, unset: readonly string[] = []) {
  const entries = [...Object.entries(set), ...unset.map((key) => [key, null] as const)];
  return entries.length === 0 ? {} : { [field]: Object.fromEntries(entries) };
}
