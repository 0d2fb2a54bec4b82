import { ChangeQuery, pageOf } from "../common.ts";
import { route } from "../route.ts";
import { CreateToken, ListTokensQuery, NewToken, Token, TokenParams } from "../token.ts";

const projectQuery = ChangeQuery.pick({ project: true });
const tokens = "/api/v1/tokens";

/** The requests about tokens. */
export const tokenRoutes = {
  listTokens: route({
    method: "GET",
    path: tokens,
    summary: "List tokens, newest first",
    description: "Those of one project; for who administers the whole system and names none, all there are.",
    resource: "token",
    action: "list",
    kind: "json",
    query: ListTokensQuery,
    status: 200,
    response: pageOf(Token),
  }),
  createToken: route({
    method: "POST",
    path: tokens,
    summary: "Make a token",
    description:
      "Its secret is in this answer and nowhere else, so the request takes no Idempotency-Key: who missed the answer deletes the token and makes another.",
    resource: "token",
    action: "create",
    kind: "json",
    query: projectQuery,
    body: CreateToken,
    status: 201,
    response: NewToken,
  }),
  getToken: route({
    method: "GET",
    path: `${tokens}/:token`,
    summary: "Show one token, without its secret",
    resource: "token",
    action: "read",
    kind: "json",
    params: TokenParams,
    query: projectQuery,
    status: 200,
    response: Token,
  }),
  deleteToken: route({
    method: "DELETE",
    path: `${tokens}/:token`,
    summary: "Revoke a token",
    description: "It is refused from now on, and what is open under it ends.",
    resource: "token",
    action: "delete",
    kind: "json",
    params: TokenParams,
    query: projectQuery,
    status: 200,
    response: Token,
  }),
};
