import { BerthError, type PrunedTemplates, type PruneTemplates, type Template, type TemplateChange } from "@berth/api";
import type { Scope, Services as ServerServices } from "../server/services.ts";
import { readOperation } from "../store/operations.ts";
import { listTemplates, readTemplate } from "../store/templates.ts";
import { deleteTemplateBy } from "../workflows/delete-template.ts";
import { findUselessTemplates } from "../workflows/find-useless-templates.ts";
import type { Services } from "../workflows/services.ts";
import { changeOnce } from "./change.ts";

/** Templates, as the server asks for them. */
export function templateServices(services: Services, nodeId: string): ServerServices["templates"] {
  const { store } = services;

  const get = async ({ project }: Scope, id: string): Promise<Template> => {
    const template = await readTemplate(store.queries, id);
    if (template?.project !== project) throw new BerthError("not_found", `There is no template ${id}.`);
    return template;
  };

  /** The objects of an earlier change as they are now; as they were then, where they are gone. */
  const refresh = async (made: TemplateChange): Promise<TemplateChange> => ({
    template: (await readTemplate(store.queries, made.template.id)) ?? made.template,
    operation: (await readOperation(store.queries, made.operation.id)) ?? made.operation,
  });

  return {
    async list({ project }, query) {
      const { rows, nextCursor } = await listTemplates(store.queries, { ...query, project });
      return { items: rows, nextCursor };
    },
    get,
    async remove(scope, id, options) {
      const made = await changeOnce(store, scope, options, async (tx) => {
        const template = await readTemplate(tx, id);
        if (template?.project !== scope.project) throw new BerthError("not_found", `There is no template ${id}.`);
        return { template, operation: await deleteTemplateBy(tx, template, scope.caller.id, options.queue) };
      });
      return refresh(made);
    },
    async prune({ project, caller }, { dryRun, ...bounds }: PruneTemplates): Promise<PrunedTemplates> {
      const useless = await findUselessTemplates(services, { project, nodeId }, { ...bounds, failedForMs: 0 });
      const items: PrunedTemplates["items"] = [];
      for (const { template, reason } of useless) {
        const remove = () => store.transaction((tx) => deleteTemplateBy(tx, template, caller.id));
        items.push({ template, reason, operationId: dryRun ? null : (await remove()).id });
      }
      return { items };
    },
  };
}
