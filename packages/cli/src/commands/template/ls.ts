import type { Template } from "@berth/api";
import { command, yes } from "../../command.ts";
import { listAll } from "../../pages.ts";
import { age, bytes, mebibytes, table } from "../../text.ts";

export default command<{ quiet?: boolean }>({
  parameters: { flags: { quiet: yes("Print ids only") }, aliases: { q: "quiet" } },
  async run(context, { quiet }) {
    const client = await context.client();
    const templates = await listAll((page) => client.listTemplates({ query: page }));
    if (quiet) return context.print(templates, () => templates.map(({ id }) => `${id}\n`).join(""));
    context.print(templates, () =>
      table(
        ["ID", "IMAGE", "STATE", "CPUS", "MEMORY", "SIZE", "USES", "LAST USED", "AGE"],
        templates.map((template) => row(template, Date.now())),
      ),
    );
  },
});

function row({ id, image, state, cpus, memoryMib, ...template }: Template, now: number): string[] {
  const { sizeBytes, uses, lastUsedAt, createdAt } = template;
  const size = sizeBytes === null ? "-" : bytes(sizeBytes);
  const used = lastUsedAt === null ? "-" : `${age(lastUsedAt, now)} ago`;
  return [id, image, state, String(cpus), mebibytes(memoryMib), size, String(uses), used, age(createdAt, now)];
}
