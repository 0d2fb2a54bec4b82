import type { Operation, Template } from "@berth/api";
import { startOperation } from "../operations/start.ts";
import { resourceOf } from "../store/operations.ts";
import type { Transaction } from "../store/store.ts";
import { readTemplate } from "../store/templates.ts";
import type { Services } from "./services.ts";

/** Has a template deleted; one that is being made is given up for that. */
export function deleteTemplateBy(
  tx: Transaction,
  template: Template,
  requestedBy: string,
  queue = false,
): Promise<Operation> {
  return startOperation(tx, {
    type: "template.delete",
    project: template.project,
    target: { kind: "template", id: template.id, name: template.image },
    claims: [resourceOf("template", template.id)],
    input: {},
    nodeId: template.nodeId,
    requestedBy,
    queue,
    rank: 2,
  });
}

/** Has a template deleted that nothing can be cloned from, unless somebody did already. */
export async function dropTemplate({ store }: Services, id: string, requestedBy: string): Promise<void> {
  await store.transaction(async (tx) => {
    const template = await readTemplate(tx, id);
    if (template?.state === "ready") await deleteTemplateBy(tx, template, requestedBy, true);
  });
}
