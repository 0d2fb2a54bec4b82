import type { Client, Role } from "@berth/api";
import type { Context } from "./command.ts";

/** The names of roles, the least first. */
export const roleNames = ["viewer", "operator", "admin"] as const satisfies Role[];

/** What somebody may do, in words. */
export function describeRoles(admin: boolean, roles: Readonly<Record<string, Role>>): string {
  if (admin) return "administers the whole system";
  const inProjects = Object.entries(roles).map(([project, role]) => `${role} of ${project}`);
  return inProjects.join(", ") || "none";
}

/** The change of roles that `--role` asks for, in the project that `--project` names, else in the caller's own; nothing without it. */
export async function rolesAsked<T extends Role | null>(
  context: Context,
  client: Client,
  role: T | undefined,
): Promise<{ roles?: Record<string, T> }> {
  if (role === undefined) return {};
  const project = context.project ?? (await client.whoAmI()).project;
  return { roles: { [project]: role } };
}
