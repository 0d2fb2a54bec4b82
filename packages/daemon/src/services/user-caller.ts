import type { Role } from "@berth/api";
import type { Caller } from "../identity/authorize.ts";
import { defaultProject } from "../store/projects.ts";

/** What is known of a user however he has logged in. */
interface LoggedIn {
  readonly userId: string;
  readonly userName: string;
  readonly admin: boolean;
  readonly roles: ReadonlyMap<string, Role>;
}

/** Who a user is to those who ask what he may do. His requests are for the default project when he has a role there, else for the first in which he has one. */
export function callerOfUser(
  { userId, userName, admin, roles }: LoggedIn,
  login: Pick<Caller, "session" | "scopes" | "expiresAt">,
): Caller {
  const [first = null] = roles.keys();
  const project = admin || roles.has(defaultProject) ? null : first;
  return { id: userId, name: userName, admin, roles, project, ...login };
}
