import { parseCpus, parseMebibytes } from "../../amounts.ts";
import { command, count, text } from "../../command.ts";
import { UsageError } from "../../errors.ts";

type Flags = { image?: string; size?: number; cpus?: number; memory?: number; location?: string };

export default command<Flags, [string]>({
  description:
    "Launches of this image with these CPUs and this memory take a machine from the pool, which is then filled up again. Disk size, ports, environment, command, name and labels " +
    "are each launch's own. Returns at once: the pool is filled in the background, and the image pulled when it is not here yet. Prints the pool's name.",
  parameters: {
    flags: {
      image: text("The image: a reference or an id; required", "IMAGE"),
      size: count("How many machines wait in it; required"),
      cpus: { kind: "parsed", parse: parseCpus, brief: "CPUs, 1 when not given", placeholder: "N", optional: true },
      memory: {
        kind: "parsed",
        parse: parseMebibytes,
        brief: "Memory, 512M when not given",
        placeholder: "SIZE",
        optional: true,
      },
      location: text("Where its machines shall be", "LOCATION"),
    },
    aliases: { m: "memory" },
    positional: { kind: "tuple", parameters: [{ parse: String, brief: "A name for the pool", placeholder: "NAME" }] },
  },
  async run(context, { image, size, cpus, memory, location }, name) {
    if (image === undefined || size === undefined)
      throw new UsageError(
        "A pool needs an image and a size.",
        `Write: berth pool create ${name} --image nginx --size 5`,
      );
    const client = await context.client();
    const pool = await client.createPool(
      {
        body: {
          name,
          image,
          size,
          ...(cpus === undefined ? {} : { cpus }),
          ...(memory === undefined ? {} : { memoryMib: memory }),
          ...(location === undefined ? {} : { location }),
        },
      },
      { idempotencyKey: crypto.randomUUID() },
    );
    context.print(pool, () => `${pool.name}\n`);
  },
});
