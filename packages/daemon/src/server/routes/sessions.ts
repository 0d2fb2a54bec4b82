import { BerthError } from "@berth/api";
import type { Caller } from "../../identity/authorize.ts";
import { hashToken } from "../../identity/tokens.ts";
import { type Handlers, projectOf } from "../call.ts";
import { csrfTokenOf } from "../session-cookie.ts";

type SessionRoutes =
  | "logIn"
  | "logOut"
  | "whoAmI"
  | "changePassword"
  | "setPassword"
  | "authorizeProgram"
  | "authorizeDevice";

function sessionOf({ session }: Caller): string {
  if (session === null) throw new BerthError("no_session", "It carries a token, not a session's cookie.");
  return session;
}

export const sessionHandlers: Handlers<SessionRoutes> = {
  logIn: async (call) => {
    const { user, secret, endsAt } = await call.services.sessions.begin(call.body, call.address);
    call.header("set-cookie", call.cookie.write(secret, endsAt));
    return { user, csrfToken: csrfTokenOf(hashToken(secret)), expiresAt: new Date(endsAt).toISOString() };
  },
  logOut: async (call) => {
    await call.services.sessions.end(sessionOf(call.scope.caller));
    call.header("set-cookie", call.cookie.write("", 0));
    return undefined;
  },
  whoAmI: async ({ scope: { caller } }) => ({
    kind: caller.id.startsWith("u-") ? "user" : "token",
    id: caller.id,
    name: caller.name,
    admin: caller.admin,
    roles: Object.fromEntries(caller.roles),
    project: projectOf(caller, undefined, undefined),
    scopes: caller.scopes && [...caller.scopes],
    expiresAt: caller.expiresAt === null ? null : new Date(caller.expiresAt).toISOString(),
    csrfToken: caller.session === null ? null : csrfTokenOf(caller.session),
  }),
  changePassword: async (call) => {
    const { caller } = call.scope;
    sessionOf(caller);
    await call.services.sessions.changePassword(caller, call.body, call.address);
    return undefined;
  },
  setPassword: async ({ services, body }) => {
    await services.sessions.setPassword(body);
    return undefined;
  },
  authorizeProgram: async ({ services, scope: { caller }, body }) => {
    sessionOf(caller);
    return { code: await services.oauth.authorizeProgram(caller, body) };
  },
  authorizeDevice: async ({ services, scope: { caller }, body }) => {
    sessionOf(caller);
    await services.oauth.authorizeDevice(caller, body);
    return undefined;
  },
};
