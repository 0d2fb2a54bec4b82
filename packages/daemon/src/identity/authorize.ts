import { type Action, BerthError, type Resource, type Role } from "@berth/api";

/** Who sends a request, and what may be done by it. */
export interface Caller {
  /** The token's or the user's. */
  readonly id: string;
  readonly name: string;
  /** SHA-256 (hex) of the secret of the session it is sent in; null for a token. */
  readonly session: string | null;
  /** Whether it administers the whole system, every project included. */
  readonly admin: boolean;
  /** What it may do in projects, by their names. */
  readonly roles: ReadonlyMap<string, Role>;
  /** The project its requests are for when they name none; null for `default`. */
  readonly project: string | null;
  /** What it is limited to beyond its roles: `instance`, `image:read`; null for nothing. */
  readonly scopes: readonly string[] | null;
  /** Asks again who it is, of one whose request may go on although what it was sent with ends by itself; undefined once it may not. */
  readonly again?: () => Promise<Caller | undefined>;
  /** When it ends, in milliseconds since the epoch; null for never. */
  readonly expiresAt: number | null;
}

type Rights = Readonly<Record<Resource, readonly Action[]>>;

const nothing: readonly Action[] = [];
const look: readonly Action[] = ["list", "read"];
const work: readonly Action[] = ["list", "read", "create", "update", "delete", "use"];

const viewer: Rights = {
  instance: look,
  image: look,
  template: look,
  pool: look,
  archive: look,
  snapshot: look,
  operation: look,
  event: look,
  project: look,
  token: nothing,
  user: nothing,
  // Answered before it comes to roles.
  session: nothing,
  node: look,
  system: nothing,
};
const operator: Rights = {
  ...viewer,
  instance: work,
  image: work,
  template: work,
  pool: work,
  archive: work,
  snapshot: work,
  operation: work,
};
const admin: Rights = { ...operator, token: work };

/** What each role may do to each kind of object of its project. Only who administers the whole system may do more. docs/access.md tells it by request. */
const allowed: Readonly<Record<Role, Rights>> = { viewer, operator, admin };

/** Throws `forbidden` unless the caller may do this to objects of this kind in the project. */
export function authorize(caller: Caller, action: Action, resource: Resource, project: string): void {
  // Everybody may come in, know who he is, and leave.
  if (resource === "session") return;
  if (caller.scopes !== null && !isInScopes(caller.scopes, action, resource)) {
    throw new BerthError("forbidden", `The token's scopes do not include ${resource}:${verbOf(action)}.`);
  }
  if (caller.admin) return;
  // The machines are everybody's.
  const role = resource === "node" ? firstOf(caller.roles) : caller.roles.get(project);
  if (role === undefined) throw new BerthError("forbidden", `You have no role in the project ${project}.`);
  if (allowed[role][resource].includes(action)) return;
  throw new BerthError(
    "forbidden",
    admin[resource].includes(action)
      ? `The role ${role} may not ${action} this ${resource}.`
      : "Only who administers the whole system may do this.",
  );
}

function firstOf(roles: ReadonlyMap<string, Role>): Role | undefined {
  for (const role of roles.values()) return role;
  return undefined;
}

/** What a scope calls an action. */
function verbOf(action: Action): string {
  return action === "list" ? "read" : action;
}

function isInScopes(scopes: readonly string[], action: Action, resource: Resource): boolean {
  return scopes.includes(resource) || scopes.includes(`${resource}:${verbOf(action)}`);
}

/** Whether everything within the scopes asked for is within those that somebody has himself; null is everything. */
export function mayGrant(own: readonly string[] | null, asked: readonly string[] | null): boolean {
  if (own === null) return true;
  if (asked === null) return false;
  return asked.every((scope) => own.includes(scope) || own.includes(scope.split(":")[0] ?? ""));
}
