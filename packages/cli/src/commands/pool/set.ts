import { command, count, poolArgument } from "../../command.ts";
import { UsageError } from "../../errors.ts";

export default command<{ size?: number }, [string]>({
  description: "Returns at once: machines are made or removed in the background.",
  parameters: {
    flags: { size: count("How many machines wait in it; required") },
    positional: { kind: "tuple", parameters: [poolArgument] },
  },
  async run(context, { size }, name) {
    if (size === undefined) throw new UsageError("Say what to change: --size 5.");
    const client = await context.client();
    const pool = await client.changePool(
      { params: { pool: name }, body: { size } },
      { idempotencyKey: crypto.randomUUID() },
    );
    context.print(pool, () => `${pool.name}\n`);
  },
});
