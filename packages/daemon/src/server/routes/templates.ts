import { answerChange, changeOptions, type Handlers } from "../call.ts";

type TemplateRoutes = "listTemplates" | "getTemplate" | "deleteTemplate" | "pruneTemplates";

export const templateHandlers: Handlers<TemplateRoutes> = {
  listTemplates: ({ services, scope, query: { limit, cursor } }) => services.templates.list(scope, { limit, cursor }),
  getTemplate: ({ services, scope, params }) => services.templates.get(scope, params.template),
  deleteTemplate: async (call) => {
    const { services, scope, params } = call;
    const change = await services.templates.remove(scope, params.template, changeOptions("deleteTemplate", call));
    return answerChange(call, change, async () => ({ template: await services.templates.get(scope, params.template) }));
  },
  pruneTemplates: ({ services, scope, body }) => services.templates.prune(scope, body),
};
