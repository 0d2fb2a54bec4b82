import { type Instance, maxChildren } from "@berth/api";
import { parseLabels } from "../../amounts.ts";
import { command, count as countFlag, instanceArgument, text, texts, yes } from "../../command.ts";
import { UsageError } from "../../errors.ts";
import { follow } from "../../follow.ts";
import { type PortToPublish, parsePort } from "../../ports.ts";

type Flags = {
  count?: number;
  name?: string;
  publish?: PortToPublish[];
  label?: string[];
  detach?: boolean;
};

export default command<Flags, [string]>({
  description:
    "The children go on from its memory and disks of one moment, each with a name, address, keys and random numbers of its own. It runs on meanwhile, and stands still for " +
    "that moment only. Children publish its ports on free host ports. Returns when all of them are ready and prints their names.",
  parameters: {
    flags: {
      count: countFlag(`How many children, 1 when not given, ${maxChildren} at most`),
      name: text("The only child's name; of several, what their names begin with", "NAME"),
      publish: {
        kind: "parsed",
        parse: parsePort,
        brief: "Publish this port of each child instead: 80, 0.0.0.0::80; of an only one also 8080:80",
        placeholder: "PORT",
        optional: true,
        variadic: true,
      },
      label: texts("Add a label", "K=V"),
      detach: yes("Do not wait until they are ready"),
    },
    aliases: { n: "count", p: "publish", l: "label", d: "detach" },
    positional: { kind: "tuple", parameters: [instanceArgument] },
  },
  async run(context, { count = 1, name, publish, label, detach }, parent) {
    if (count < 1 || count > maxChildren) throw new UsageError(`--count is 1 to ${maxChildren}.`);
    const client = await context.client();
    const body = {
      count,
      labels: parseLabels(label ?? []),
      ...(name === undefined ? {} : { name }),
      ...(publish === undefined ? {} : { ports: publish }),
    };
    const { children, operation } = await client.forkInstance(
      { params: { instance: parent }, body },
      { idempotencyKey: crypto.randomUUID() },
    );
    const print = (made: readonly Instance[]) =>
      context.print(made, () => made.map((child) => `${child.name}\n`).join(""));
    if (detach) return print(children);
    const { steps, target } = await follow(context, operation);
    const pause = steps.find((step) => step.name === "save-memory")?.detail;
    if (pause) context.out.say(`${target.name} ${pause}.`);
    print(await Promise.all(children.map(({ id }) => client.getInstance({ params: { instance: id } }))));
  },
});
