import { changeOptions, type Handlers } from "../call.ts";

type ProjectRoutes = "listProjects" | "createProject" | "getProject" | "deleteProject";

export const projectHandlers: Handlers<ProjectRoutes> = {
  listProjects: ({ services, scope: { caller }, query: { limit, cursor } }) =>
    services.projects.list(caller.admin ? undefined : [...caller.roles.keys()], { limit, cursor }),
  createProject: (call) => call.services.projects.create(call.scope, call.body, changeOptions("createProject", call)),
  getProject: ({ services, params }) => services.projects.get(params.project),
  deleteProject: ({ services, params }) => services.projects.remove(params.project),
};
