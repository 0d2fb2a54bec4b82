import type { Operation } from "@berth/api";
import { command, count, text, yes } from "../../command.ts";
import { age, span, table } from "../../text.ts";

type Flags = {
  unfinished?: boolean;
  target?: string;
  last?: number;
};

export default command<Flags>({
  parameters: {
    flags: {
      unfinished: yes("Only those that still go on"),
      target: text("Only those of this object's id", "ID"),
      last: count("How many, 50 when not given"),
    },
    aliases: { n: "last" },
  },
  async run(context, { unfinished, target, last }) {
    const client = await context.client();
    const { items } = await client.listOperations({
      query: { unfinished, target, limit: Math.min(500, Math.max(1, last ?? 50)) },
    });
    context.print(items, () =>
      table(
        ["ID", "TYPE", "TARGET", "STATUS", "TOOK", "AGE"],
        items.map((operation) => row(operation, Date.now())),
      ),
    );
  },
});

function row({ id, type, target, status, startedAt, endedAt, createdAt }: Operation, now: number): string[] {
  const took = startedAt && endedAt ? span(Date.parse(endedAt) - Date.parse(startedAt)) : "-";
  return [id, type, target.name, status, took, age(createdAt, now)];
}
