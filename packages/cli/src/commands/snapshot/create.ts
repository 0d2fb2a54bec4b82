import { command, instanceArgument, text } from "../../command.ts";
import { follow } from "../../follow.ts";

export default command<{ name?: string }, [string]>({
  description:
    "Keeps what is on the instance's disks at this moment. It costs no room at first: from then on only what changes is written. " +
    "The instance has to be stopped. Prints the snapshot's name.",
  parameters: {
    flags: { name: text("Its name; made from the instance's and the time when not given", "NAME") },
    positional: { kind: "tuple", parameters: [instanceArgument] },
  },
  async run(context, { name }, instance) {
    const client = await context.client();
    const body = { instance, ...(name === undefined ? {} : { name }) };
    const { snapshot, operation } = await client.createSnapshot({ body }, { idempotencyKey: crypto.randomUUID() });
    await follow(context, operation);
    const made = await client.getSnapshot({ params: { snapshot: snapshot.id } });
    context.print(made, () => `${made.name}\n`);
  },
});
