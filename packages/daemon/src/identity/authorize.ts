import { type Action, BerthError, type Resource } from "@berth/api";

export const roles = ["admin"] as const;
export type Role = (typeof roles)[number];

/** Who sends a request, as its token tells. */
export interface Caller {
  readonly tokenId: string;
  /** The token's name, for people. */
  readonly name: string;
  readonly role: Role;
  /** The only project the token is for; null for all. */
  readonly project: string | null;
}

const everything: readonly Action[] = ["list", "read", "create", "update", "delete", "use"];

/** What each role may do to each kind of resource. */
const allowed: Readonly<Record<Role, Readonly<Record<Resource, readonly Action[]>>>> = {
  admin: {
    instance: everything,
    image: everything,
    template: everything,
    archive: everything,
    snapshot: everything,
    pool: everything,
    operation: everything,
    event: everything,
    node: everything,
    system: everything,
  },
};

/** Resources that belong to the installation, not to one project. */
const withoutProject: ReadonlySet<Resource> = new Set(["node", "system"]);

/** Throws `forbidden` unless the caller's role allows the action, in the project the token is for. */
export function authorize(caller: Caller, action: Action, resource: Resource, project: string): void {
  if (!allowed[caller.role][resource].includes(action)) {
    throw new BerthError("forbidden", `The role ${caller.role} may not ${action} this ${resource}.`);
  }
  if (!withoutProject.has(resource) && caller.project !== null && caller.project !== project) {
    throw new BerthError("forbidden", `The token is for the project ${caller.project}, not for ${project}.`);
  }
}
