import { command, snapshotArgument } from "../../command.ts";
import { follow } from "../../follow.ts";

export default command<Record<never, never>, [string, string]>({
  description:
    "Copies the root disk of a snapshot into an image of its own, which is launched as any other: with the ENTRYPOINT, CMD, ENV and USER of the image that the instance was made from, " +
    "not with what it was launched with. All that is on the disk is in the image, keys and passwords too. Prints the image's id.",
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        snapshotArgument,
        { parse: String, brief: "What the image shall be called, as web:golden", placeholder: "REFERENCE" },
      ],
    },
  },
  async run(context, _flags, snapshot, reference) {
    const client = await context.client();
    const request = { params: { snapshot }, body: { reference } };
    const { image, operation } = await client.promoteSnapshot(request, { idempotencyKey: crypto.randomUUID() });
    await follow(context, operation);
    const made = await client.getImage({ params: { image: image.id } });
    context.print(made, () => `${made.id}\n`);
  },
});
