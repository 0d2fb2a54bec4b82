import { pageOf } from "../common.ts";
import { route } from "../route.ts";
import { ChangeUser, CreateUser, ListUsersQuery, User, UserParams, UserReset } from "../user.ts";

const users = "/api/v1/users";
const user = `${users}/:user`;

/** The requests about users. */
export const userRoutes = {
  listUsers: route({
    method: "GET",
    path: users,
    summary: "List users, newest first",
    resource: "user",
    action: "list",
    kind: "json",
    query: ListUsersQuery,
    status: 200,
    response: pageOf(User),
  }),
  createUser: route({
    method: "POST",
    path: users,
    summary: "Make a user",
    description:
      "The answer has a code by which the user sets a password, on the page `/password#CODE` or with `/api/v1/password/set`.",
    resource: "user",
    action: "create",
    kind: "json",
    body: CreateUser,
    status: 201,
    response: UserReset,
  }),
  getUser: route({
    method: "GET",
    path: user,
    summary: "Show one user",
    resource: "user",
    action: "read",
    kind: "json",
    params: UserParams,
    status: 200,
    response: User,
  }),
  changeUser: route({
    method: "PATCH",
    path: user,
    summary: "Change what a user may do",
    description: "It holds from the next request on, and for what is open.",
    resource: "user",
    action: "update",
    kind: "json",
    params: UserParams,
    body: ChangeUser,
    status: 200,
    response: User,
  }),
  resetUser: route({
    method: "POST",
    path: `${user}/reset`,
    summary: "Let a user set a new password",
    description:
      "By the code in the answer, once, within a day. Codes from before are void; the password stays until then.",
    resource: "user",
    action: "update",
    kind: "json",
    params: UserParams,
    status: 201,
    response: UserReset,
  }),
  deleteUser: route({
    method: "DELETE",
    path: user,
    summary: "Delete a user",
    description: "His sessions end.",
    resource: "user",
    action: "delete",
    kind: "json",
    params: UserParams,
    status: 200,
    response: User,
  }),
};
