import { changeOptions, type Handlers } from "../call.ts";

type ProjectRoutes = "listProjects" | "createProject" | "getProject" | "getQuota" | "changeQuota" | "deleteProject";

export const projectHandlers: Handlers<ProjectRoutes> = {
  listProjects: ({ services, scope: { caller }, query: { limit, cursor } }) =>
    services.projects.list(caller.admin ? undefined : [...caller.roles.keys()], { limit, cursor }),
  createProject: (call) => call.services.projects.create(call.scope, call.body, changeOptions("createProject", call)),
  getProject: ({ services, params }) => services.projects.get(params.project),
  getQuota: ({ services, params }) => services.projects.quota(params.project),
  changeQuota: ({ services, params, body }) => services.projects.changeQuota(params.project, body),
  deleteProject: ({ services, params }) => services.projects.remove(params.project),
};
