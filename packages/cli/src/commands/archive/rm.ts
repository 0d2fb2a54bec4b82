import { command } from "../../command.ts";
import { follow, forEach } from "../../follow.ts";

export default command<Record<never, never>, string[]>({
  parameters: {
    positional: {
      kind: "array",
      minimum: 1,
      parameter: { parse: String, brief: "An archive's id", placeholder: "ID" },
    },
  },
  async run(context, _flags, ...ids) {
    const client = await context.client();
    const changes = await forEach(context, ids, async (id) => {
      const { archive, operation } = await client.deleteArchive(
        { params: { archive: id } },
        { idempotencyKey: crypto.randomUUID() },
      );
      const ended = await follow(context, operation);
      if (!context.json) context.out.print(`${archive.id}\n`);
      return { archive, operation: ended };
    });
    if (context.json) context.print(changes, () => "");
  },
});
