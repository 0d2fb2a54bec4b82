import { BerthError, type Project } from "@berth/api";
import { newId } from "../core/ids.ts";
import type { Services } from "../server/services.ts";
import { appendEvent, type NewEvent } from "../store/events.ts";
import {
  countHeld,
  defaultProject,
  deleteProject,
  findProject,
  insertProject,
  listProjects,
  lockProject,
} from "../store/projects.ts";
import { readQuota, writeLimits } from "../store/quotas.ts";
import type { Queries, Store } from "../store/store.ts";
import { deleteProjectTokens } from "../store/tokens.ts";
import { changeOnce } from "./change.ts";

/** Projects, as the server asks for them. */
export function projectServices(store: Store): Services["projects"] {
  return {
    async list(names, query) {
      const { rows, nextCursor } = await listProjects(store.queries, { ...query, names });
      return { items: rows, nextCursor };
    },
    get: (name) => requireProject(store.queries, name),
    create: (scope, { name }, options) =>
      changeOnce(store, scope, options, async (tx) => {
        const project = await insertProject(tx, { id: newId("project"), name });
        appendEvent(tx, projectEvent(project, "project.created"));
        return project;
      }),
    async quota(name) {
      await requireProject(store.queries, name);
      return readQuota(store.queries, name);
    },
    changeQuota: (name, changes) =>
      store.transaction(async (tx) => {
        await requireProject(tx, name);
        await writeLimits(tx, name, changes);
        return readQuota(tx, name);
      }),
    remove: (name) =>
      store.transaction(async (tx) => {
        await lockProject(tx, name);
        const project = await requireProject(tx, name);
        if (name === defaultProject)
          throw new BerthError(
            "project_in_use",
            "Requests that name no project are for the project default: it stays.",
          );
        const held = await countHeld(tx, name);
        if (held.size > 0) throw new BerthError("project_in_use", `${name} still holds ${describeHeld(held)}.`);
        await deleteProjectTokens(tx, name);
        await deleteProject(tx, name);
        appendEvent(tx, projectEvent(project, "project.deleted"));
        return project;
      }),
  };
}

async function requireProject(queries: Queries, name: string): Promise<Project> {
  const project = await findProject(queries, name);
  if (!project) throw new BerthError("not_found", `There is no project ${name}.`);
  return project;
}

/** `2 instances, 1 image`. */
function describeHeld(held: ReadonlyMap<string, number>): string {
  return [...held].map(([kind, count]) => `${count} ${kind}${count === 1 ? "" : "s"}`).join(", ");
}

function projectEvent({ id, name }: Project, type: string): NewEvent {
  return { type, project: name, subject: { kind: "project", id, name }, operationId: null, data: {} };
}
