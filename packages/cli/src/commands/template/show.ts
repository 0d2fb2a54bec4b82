import type { Template } from "@berth/api";
import { command, templateArgument } from "../../command.ts";
import { bytes, facts, mebibytes, moment } from "../../text.ts";

export default command<Record<never, never>, [string]>({
  parameters: { positional: { kind: "tuple", parameters: [templateArgument] } },
  async run(context, _flags, id) {
    const client = await context.client();
    const template = await client.getTemplate({ params: { template: id } });
    context.print(template, () => facts(describe(template, Date.now())));
  },
});

function describe(
  { reason, sizeBytes, lastUsedAt, operationId, ...template }: Template,
  now: number,
): [string, string][] {
  const optional: [string, string | null][] = [
    ["Reason", reason],
    ["Size", sizeBytes === null ? null : bytes(sizeBytes)],
    ["Last used", lastUsedAt && moment(lastUsedAt, now)],
    ["Made by", operationId],
  ];
  return [
    ["Id", template.id],
    ["Image", template.image],
    ["Digest", template.contentDigest],
    ["State", template.state],
    ["CPUs", String(template.cpus)],
    ["Memory", mebibytes(template.memoryMib)],
    ["Disks", String(template.disks)],
    ["Interfaces", String(template.interfaces)],
    ["Build", template.build],
    ["Location", template.location],
    ["Uses", String(template.uses)],
    ["Created", moment(template.createdAt, now)],
    ...optional.flatMap(([name, value]): [string, string][] => (value ? [[name, value]] : [])),
  ];
}
