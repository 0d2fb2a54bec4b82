import { command, templateArgument } from "../../command.ts";
import { follow, forEach } from "../../follow.ts";

export default command<Record<never, never>, string[]>({
  description:
    "What was cloned from them goes on. The next launch of the shape boots, and has the template made again.",
  parameters: { positional: { kind: "array", minimum: 1, parameter: templateArgument } },
  async run(context, _flags, ...ids) {
    const client = await context.client();
    const changes = await forEach(context, [...new Set(ids)], async (id) => {
      const { template, operation } = await client.deleteTemplate(
        { params: { template: id } },
        { idempotencyKey: crypto.randomUUID() },
      );
      const ended = await follow(context, operation);
      if (!context.json) context.out.print(`${template.id}\n`);
      return { template, operation: ended };
    });
    if (context.json) context.print(changes, () => "");
  },
});
