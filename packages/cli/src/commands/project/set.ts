import type { ChangeQuota } from "@berth/api";
import { parseMebibytes } from "../../amounts.ts";
import { command, projectArgument } from "../../command.ts";
import { UsageError } from "../../errors.ts";
import { describeQuota } from "../../quota.ts";
import { facts } from "../../text.ts";

/** A limit that is asked for; null lifts it. */
interface Most {
  readonly most: number | null;
}

type Flags = { instances?: Most; cpus?: Most; memory?: Most; disk?: Most; ports?: Most; images?: Most };

/** A limit: a number as `read` takes it, or `none`. */
function limit(brief: string, placeholder: string, read: (text: string) => number) {
  const parse = (input: string): Most => ({ most: input === "none" ? null : read(input) });
  return { kind: "parsed", parse, brief, placeholder, optional: true } as const;
}

function parseCount(input: string): number {
  if (!/^\d{1,9}$/.test(input)) throw new SyntaxError("must be a whole number, or none");
  return Number(input);
}

export default command<Flags, [string]>({
  description:
    "Each is the most that the project may have, or none for as much as there is. Instances that are off count as well, and so do the machines of pools. What a project has beyond a new limit stays.",
  parameters: {
    flags: {
      instances: limit("Instances", "N", parseCount),
      cpus: limit("CPUs of all instances", "N", parseCount),
      memory: limit("Memory of all instances", "SIZE", parseMebibytes),
      disk: limit("Disks of all instances", "SIZE", parseMebibytes),
      ports: limit("Published ports", "N", parseCount),
      images: limit("Images", "N", parseCount),
    },
    positional: { kind: "tuple", parameters: [projectArgument] },
  },
  async run(context, { instances, cpus, memory, disk, ports, images }, project) {
    const asked = { instances, cpus, memoryMib: memory, diskMib: disk, ports, images };
    const body: ChangeQuota = Object.fromEntries(
      Object.entries(asked).flatMap(([name, one]) => (one === undefined ? [] : [[name, one.most]])),
    );
    if (Object.keys(body).length === 0) throw new UsageError("Say what to change: --instances 10, --memory 16G.");
    const client = await context.client();
    const quota = await client.changeQuota({ params: { project }, body });
    context.print(quota, () => facts(describeQuota(quota)));
  },
});
