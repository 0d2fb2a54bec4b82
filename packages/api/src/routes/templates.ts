import { TemplateChange } from "../change.ts";
import { ChangeQuery, PageQuery, pageOf } from "../common.ts";
import { route } from "../route.ts";
import { PrunedTemplates, PruneTemplates, Template, TemplateParams } from "../template.ts";

const projectQuery = ChangeQuery.pick({ project: true });
const templates = "/api/v1/templates";

/** The requests about templates. */
export const templateRoutes = {
  listTemplates: route({
    method: "GET",
    path: templates,
    summary: "List templates",
    resource: "template",
    action: "list",
    kind: "json",
    query: PageQuery,
    status: 200,
    response: pageOf(Template),
  }),
  getTemplate: route({
    method: "GET",
    path: `${templates}/:template`,
    summary: "Show one template",
    resource: "template",
    action: "read",
    kind: "json",
    params: TemplateParams,
    query: projectQuery,
    status: 200,
    response: Template,
  }),
  deleteTemplate: route({
    method: "DELETE",
    path: `${templates}/:template`,
    summary: "Delete a template; instances cloned from it go on",
    resource: "template",
    action: "delete",
    kind: "json",
    params: TemplateParams,
    query: ChangeQuery,
    status: 202,
    response: TemplateChange,
    idempotent: true,
  }),
  pruneTemplates: route({
    method: "POST",
    path: `${templates}/prune`,
    summary: "Delete the templates that are of no use, and those that the request names by age or size",
    resource: "template",
    action: "delete",
    kind: "json",
    query: projectQuery,
    body: PruneTemplates,
    status: 200,
    response: PrunedTemplates,
  }),
};
