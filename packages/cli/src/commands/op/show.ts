import type { Operation } from "@berth/api";
import { command, yes } from "../../command.ts";
import { operationArgument } from "../../operation-argument.ts";
import { facts, span, table } from "../../text.ts";

export default command<{ log?: boolean }, [string]>({
  parameters: {
    flags: { log: yes("Also its log, if it is a pull or build") },
    positional: { kind: "tuple", parameters: [operationArgument] },
  },
  async run(context, { log }, operation) {
    const client = await context.client();
    const found = await client.getOperation({ params: { operation } });
    context.print(found, () => describe(found));
    if (log && !context.json) await context.out.copy(await client.operationLog({ params: { operation } }));
  },
});

function describe({ error, ...operation }: Operation): string {
  const optional: [string, string][] = [
    ["Waits", operation.reason],
    ["Error", error ? `${error.title}: ${error.detail}` : ""],
    ["Hint", error?.hint ?? ""],
    ["Ended", operation.endedAt ?? ""],
  ];
  const head = facts([
    ["Id", operation.id],
    ["Type", operation.type],
    ["Target", `${operation.target.name} (${operation.target.id})`],
    ["Status", operation.status],
    ["Created", operation.createdAt],
    ...optional.filter(([, value]) => value !== ""),
  ]);
  if (operation.steps.length === 0) return head;
  const steps = operation.steps.map((step) => [
    step.name,
    step.status,
    step.endedAt && step.status !== "undone" ? span(Date.parse(step.endedAt) - Date.parse(step.startedAt)) : "-",
    step.detail ?? "",
  ]);
  return `${head}\n${table(["STEP", "STATUS", "TOOK", "DETAIL"], steps)}`;
}
