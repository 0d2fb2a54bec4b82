import type { Handlers } from "../call.ts";

type UserRoutes = "listUsers" | "createUser" | "getUser" | "changeUser" | "resetUser" | "deleteUser";

export const userHandlers: Handlers<UserRoutes> = {
  listUsers: ({ services, query: { limit, cursor } }) => services.users.list({ limit, cursor }),
  createUser: ({ services, body }) => services.users.create(body),
  getUser: ({ services, params }) => services.users.get(params.user),
  changeUser: ({ services, params, body }) => services.users.change(params.user, body),
  resetUser: ({ services, params }) => services.users.reset(params.user),
  deleteUser: ({ services, params }) => services.users.remove(params.user),
};
