import type { Call, Handlers } from "../call.ts";

type TokenRoutes = "listTokens" | "createToken" | "getToken" | "deleteToken";

/** The project whose tokens a request is about; undefined for all there are, which only who administers the whole system is given. */
function projectAsked({ scope, query }: Pick<Call<"listTokens" | "getToken">, "scope" | "query">): string | undefined {
  return scope.caller.admin && query.project === undefined ? undefined : scope.project;
}

export const tokenHandlers: Handlers<TokenRoutes> = {
  listTokens: (call) => {
    const { limit, cursor } = call.query;
    return call.services.tokens.list(projectAsked(call), { limit, cursor });
  },
  createToken: ({ services, scope, body }) => services.tokens.create(scope, body),
  getToken: (call) => call.services.tokens.get(projectAsked(call), call.params.token),
  deleteToken: (call) => call.services.tokens.revoke(projectAsked(call), call.params.token),
};
