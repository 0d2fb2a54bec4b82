import { PageQuery, pageOf } from "../common.ts";
import { CreateProject, Project, ProjectParams } from "../project.ts";
import { ChangeQuota, ProjectQuota } from "../quota.ts";
import { route } from "../route.ts";

const projects = "/api/v1/projects";

/** The requests about projects and their quotas. */
export const projectRoutes = {
  listProjects: route({
    method: "GET",
    path: projects,
    summary: "List the projects that the caller has a role in",
    resource: "project",
    action: "list",
    kind: "json",
    query: PageQuery.omit({ project: true }),
    status: 200,
    response: pageOf(Project),
  }),
  createProject: route({
    method: "POST",
    path: projects,
    summary: "Make a project",
    resource: "project",
    action: "create",
    kind: "json",
    body: CreateProject,
    status: 201,
    response: Project,
    idempotent: true,
  }),
  getProject: route({
    method: "GET",
    path: `${projects}/:project`,
    summary: "Show one project",
    resource: "project",
    action: "read",
    kind: "json",
    params: ProjectParams,
    status: 200,
    response: Project,
  }),
  getQuota: route({
    method: "GET",
    path: `${projects}/:project/quota`,
    summary: "Show what a project may have, and has",
    resource: "project",
    action: "read",
    kind: "json",
    params: ProjectParams,
    status: 200,
    response: ProjectQuota,
  }),
  changeQuota: route({
    method: "PATCH",
    path: `${projects}/:project/quota`,
    summary: "Change what a project may have",
    description: "What it has beyond new limits stays, and it gets no more.",
    resource: "project",
    action: "update",
    kind: "json",
    params: ProjectParams,
    body: ChangeQuota,
    status: 200,
    response: ProjectQuota,
  }),
  deleteProject: route({
    method: "DELETE",
    path: `${projects}/:project`,
    summary: "Delete a project that holds nothing",
    description: "Its tokens go with it. The project `default` stays.",
    resource: "project",
    action: "delete",
    kind: "json",
    params: ProjectParams,
    status: 200,
    response: Project,
  }),
};
