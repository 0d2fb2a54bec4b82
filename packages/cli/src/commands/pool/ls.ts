import type { Pool } from "@berth/api";
import { command, yes } from "../../command.ts";
import { listAll } from "../../pages.ts";
import { age, bytes, mebibytes, table } from "../../text.ts";

export default command<{ quiet?: boolean }>({
  parameters: { flags: { quiet: yes("Print names only") }, aliases: { q: "quiet" } },
  async run(context, { quiet }) {
    const client = await context.client();
    const pools = await listAll((page) => client.listPools({ query: page }));
    if (quiet) return context.print(pools, () => pools.map(({ name }) => `${name}\n`).join(""));
    context.print(pools, () =>
      table(
        ["NAME", "IMAGE", "READY", "CPUS", "MEMORY", "TAKES", "USES", "AGE"],
        pools.map((pool) => row(pool, Date.now())),
      ),
    );
  },
});

function row({ name, image, ready, size, cpus, memoryMib, memoryBytes, uses, createdAt }: Pool, now: number): string[] {
  const takes = memoryBytes === null ? "-" : bytes(memoryBytes);
  return [
    name,
    image,
    `${ready}/${size}`,
    String(cpus),
    mebibytes(memoryMib),
    takes,
    String(uses),
    age(createdAt, now),
  ];
}
