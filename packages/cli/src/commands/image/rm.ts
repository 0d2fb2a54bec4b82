import { command } from "../../command.ts";
import { follow, forEach } from "../../follow.ts";
import { findImage } from "../../images.ts";

export default command<Record<never, never>, string[]>({
  parameters: {
    positional: {
      kind: "array",
      minimum: 1,
      parameter: { parse: String, brief: "A reference or an id", placeholder: "IMAGE" },
    },
  },
  async run(context, _flags, ...names) {
    const client = await context.client();
    const changes = await forEach(context, names, async (name) => {
      const { id } = await findImage(context, name);
      const { image, operation } = await client.deleteImage(
        { params: { image: id } },
        { idempotencyKey: crypto.randomUUID() },
      );
      const ended = await follow(context, operation);
      if (!context.json) context.out.print(`${image.id}\n`);
      return { image, operation: ended };
    });
    if (context.json) context.print(changes, () => "");
  },
});
