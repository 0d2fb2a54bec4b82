import { command, instanceArgument, text, yes } from "../../command.ts";
import { follow } from "../../follow.ts";

type Flags = {
  image?: string;
  force?: boolean;
  discard?: boolean;
  yes?: boolean;
};

export default command<Flags, [string]>({
  description:
    "Makes an instance's root disk anew, from its image as that is now or from another one. Its volumes, name, ports, environment and all other settings stay. One that runs goes on until the image is there, is " +
    "stopped then and started again. What its disks were is kept as a snapshot, whose name is told, unless --discard is given, which asks first.",
  parameters: {
    flags: {
      image: text("The image; what the instance's own reference names now when not given", "REFERENCE"),
      force: yes("Lose what is in the memory of one that is suspended"),
      discard: yes("Do not keep what its root disk has now"),
      yes: yes("Do not ask"),
    },
    aliases: { f: "force", y: "yes" },
    positional: { kind: "tuple", parameters: [instanceArgument] },
  },
  async run(context, { image, force, discard, yes }, name) {
    const client = await context.client();
    if (discard) {
      const before = await client.getInstance({ params: { instance: name } });
      await context.out.confirm(`What ${before.name} has on its root disk now goes.`, before.name, yes);
    }
    const body = {
      ...(image === undefined ? {} : { image }),
      ...(force ? { force } : {}),
      ...(discard ? { discard } : {}),
    };
    const { instance, operation, kept } = await client.rebuildInstance(
      { params: { instance: name }, body },
      { idempotencyKey: crypto.randomUUID() },
    );
    await follow(context, operation);
    if (kept) context.out.say(`What was on its disks before is kept as ${kept.name}.`);
    const after = await client.getInstance({ params: { instance: instance.id } });
    context.print({ instance: after, kept }, () => `${after.name}\n`);
  },
});
