import { command, yes } from "../../command.ts";
import { follow, forEach } from "../../follow.ts";

export default command<{ refresh?: boolean }, string[]>({
  parameters: {
    flags: { refresh: yes("Ask the registry even when the reference is here") },
    positional: {
      kind: "array",
      minimum: 1,
      parameter: { parse: String, brief: "A reference, as docker pull takes it", placeholder: "REFERENCE" },
    },
  },
  async run(context, { refresh }, ...references) {
    const client = await context.client();
    const images = await forEach(context, references, async (reference) => {
      const body = { reference, refresh: refresh ?? false };
      const { image, operation } = await client.pullImage({ body }, { idempotencyKey: crypto.randomUUID() });
      await follow(context, operation);
      if (!context.json) context.out.print(`${image.id}\n`);
      return client.getImage({ params: { image: image.id } });
    });
    if (context.json) context.print(images, () => "");
  },
});
