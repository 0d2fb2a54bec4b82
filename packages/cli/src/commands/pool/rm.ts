import { command, poolArgument } from "../../command.ts";
import { follow, forEach } from "../../follow.ts";

export default command<Record<never, never>, string[]>({
  description: "Removes the machines that wait in them. Instances that were made from them go on.",
  parameters: { positional: { kind: "array", minimum: 1, parameter: poolArgument } },
  async run(context, _flags, ...names) {
    const client = await context.client();
    const changes = await forEach(context, [...new Set(names)], async (name) => {
      const { pool, operation } = await client.deletePool(
        { params: { pool: name } },
        { idempotencyKey: crypto.randomUUID() },
      );
      const ended = await follow(context, operation);
      if (!context.json) context.out.print(`${pool.name}\n`);
      return { pool, operation: ended };
    });
    if (context.json) context.print(changes, () => "");
  },
});
