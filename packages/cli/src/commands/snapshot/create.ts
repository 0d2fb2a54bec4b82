import { command, instanceArgument, text, yes } from "../../command.ts";
import { follow } from "../../follow.ts";

type Flags = {
  name?: string;
  memory?: boolean;
  crashConsistent?: boolean;
};

export default command<Flags, [string]>({
  description:
    "Keeps what is on the instance's disks at this moment. It costs no room at first: from then on only what changes is written. " +
    "A running guest freezes its file systems for it, two seconds at most. Prints the snapshot's name.",
  parameters: {
    flags: {
      name: text("Its name; made from the instance's and the time when not given", "NAME"),
      memory: yes("Keep the running machine's memory, too: what is made from it goes on where it was"),
      crashConsistent: yes("Take the disks as after a power cut when the guest cannot freeze them"),
    },
    positional: { kind: "tuple", parameters: [instanceArgument] },
  },
  async run(context, { name, memory, crashConsistent }, instance) {
    const client = await context.client();
    const body = {
      instance,
      ...(name === undefined ? {} : { name }),
      ...(memory ? { memory } : {}),
      ...(crashConsistent ? { crashConsistent } : {}),
    };
    const { snapshot, operation } = await client.createSnapshot({ body }, { idempotencyKey: crypto.randomUUID() });
    await follow(context, operation);
    const made = await client.getSnapshot({ params: { snapshot: snapshot.id } });
    context.print(made, () => `${made.name}\n`);
  },
});
