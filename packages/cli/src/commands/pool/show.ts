import type { Pool } from "@berth/api";
import { command, poolArgument } from "../../command.ts";
import { bytes, facts, mebibytes, moment } from "../../text.ts";

export default command<Record<never, never>, [string]>({
  parameters: { positional: { kind: "tuple", parameters: [poolArgument] } },
  async run(context, _flags, name) {
    const client = await context.client();
    const pool = await client.getPool({ params: { pool: name } });
    context.print(pool, () => facts(describe(pool, Date.now())));
  },
});

function describe({ ready, size, filling, memoryBytes, reason, ...pool }: Pool, now: number): [string, string][] {
  const optional: [string, string | null][] = [
    ["Filling", filling > 0 ? String(filling) : null],
    ["Reason", reason],
    ["Takes", memoryBytes === null ? null : `${bytes(memoryBytes)} of the node's memory`],
  ];
  return [
    ["Name", pool.name],
    ["Id", pool.id],
    ["Image", pool.image],
    ["State", pool.state],
    ["Ready", `${ready} of ${size}`],
    ["CPUs", String(pool.cpus)],
    ["Memory", mebibytes(pool.memoryMib)],
    ["Location", pool.location],
    ["Uses", String(pool.uses)],
    ["Created", moment(pool.createdAt, now)],
    ...optional.flatMap(([name, value]): [string, string][] => (value ? [[name, value]] : [])),
  ];
}
