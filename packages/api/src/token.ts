import { z } from "zod";
import { IdOrName, idSchema, Name, PageQuery, Timestamp } from "./common.ts";
import { resources } from "./route.ts";

/** What a member may do in a project, each role all that the one before may: look; change and use what there is; say who else may. */
export const roles = ["viewer", "operator", "admin"] as const;
export const Role = z.enum(roles);
export type Role = z.infer<typeof Role>;

/** What a scope may name after the colon; `read` means lists as well. */
export const scopeActions = ["read", "create", "update", "delete", "use"] as const;

/** What a token is limited to beyond its role: a kind of object, or one thing done to it: `instance`, `image:read`. */
export const TokenScope = z
  .string()
  .regex(
    new RegExp(`^(${resources.join("|")})(:(${scopeActions.join("|")}))?$`),
    "must be a kind of object, and what may be done to it: instance, or image:read",
  );

const scopes = z.array(TokenScope).min(1).max(64);

/** A credential for programs, without its secret. */
export const Token = z
  .object({
    id: idSchema("token"),
    name: Name,
    project: Name.nullable().describe("The only project it is for; null for one that administers the whole system."),
    role: Role,
    scopes: scopes.nullable().describe("What it is limited to beyond its role; null for all that the role may."),
    prefix: z.string().describe("What its secret begins with, to know a found one by; empty for one made before 0.2."),
    createdAt: Timestamp,
    expiresAt: Timestamp.nullable(),
    lastUsedAt: Timestamp.nullable().describe("When it was used last, give or take a minute."),
  })
  .meta({ id: "Token" });
export type Token = z.infer<typeof Token>;

/** A request for a token in the request's project. With `system`, it administers the whole system instead. */
export const CreateToken = z
  .strictObject({
    name: Name,
    role: Role.default("viewer"),
    scopes: scopes.optional(),
    system: z.boolean().default(false),
    expiresAt: Timestamp.optional(),
  })
  .meta({ id: "CreateToken", examples: [{ name: "ci", role: "operator", scopes: ["instance", "image:read"] }] });
export type CreateToken = z.infer<typeof CreateToken>;

/** A new token. `secret` is told this once and kept nowhere. */
export const NewToken = z.object({ token: Token, secret: z.string() }).meta({ id: "NewToken" });
export type NewToken = z.infer<typeof NewToken>;

/** The tokens of one project; for who administers the whole system and names none, all there are. */
export const ListTokensQuery = PageQuery;

export const TokenParams = z.object({ token: IdOrName });
