import { parseMebibytes, parseSpan } from "../../amounts.ts";
import { command, yes } from "../../command.ts";
import { follow } from "../../follow.ts";
import { table } from "../../text.ts";

type Flags = { unusedFor?: number; keep?: number; dryRun?: boolean };

export default command<Flags>({
  description:
    "Deletes the templates that nothing can be cloned from any more: those that could not be made, whose image is gone, or that another hypervisor or guest kit has made. " +
    "berthd does that by itself every hour, and keeps what was used within a week, up to 16 GiB.",
  parameters: {
    flags: {
      unusedFor: {
        kind: "parsed",
        parse: parseSpan,
        brief: "Also those unused for so long: 7d, 12h, 0 for all",
        placeholder: "TIME",
        optional: true,
      },
      keep: {
        kind: "parsed",
        parse: parseMebibytes,
        brief: "Also those unused for longest, until the rest takes no more than this",
        placeholder: "SIZE",
        optional: true,
      },
      dryRun: yes("Only tell which it would be"),
    },
  },
  async run(context, { unusedFor, keep, dryRun }) {
    const client = await context.client();
    const pruned = await client.pruneTemplates({
      body: {
        dryRun: dryRun ?? false,
        ...(unusedFor === undefined ? {} : { unusedForMs: unusedFor }),
        ...(keep === undefined ? {} : { keepMib: keep }),
      },
    });
    for (const { operationId } of pruned.items)
      if (operationId) await follow(context, await client.getOperation({ params: { operation: operationId } }));
    if (pruned.items.length === 0 && !context.json) return context.out.say("There is nothing to prune.");
    context.print(pruned.items, () =>
      table(
        ["ID", "IMAGE", "REASON"],
        pruned.items.map(({ template, reason }) => [template.id, template.image, reason]),
      ),
    );
  },
});
