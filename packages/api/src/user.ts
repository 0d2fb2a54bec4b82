import { z } from "zod";
import { IdOrName, idSchema, Name, PageQuery, Timestamp } from "./common.ts";
import { Role, TokenScope } from "./token.ts";

const Roles = z.record(Name, Role).describe("What he may do, by project.");

/** A person. */
export const User = z
  .object({
    id: idSchema("user"),
    name: Name,
    admin: z.boolean().describe("Whether he administers the whole system, every project included."),
    roles: Roles,
    hasPassword: z.boolean().describe("Whether a password was set; until then nobody can log in as him."),
    createdAt: Timestamp,
    lastLoginAt: Timestamp.nullable(),
  })
  .meta({ id: "User" });
export type User = z.infer<typeof User>;

/** A request for a user, who sets his password himself by the one-time code in the answer. */
export const CreateUser = z
  .strictObject({ name: Name, admin: z.boolean().default(false), roles: Roles.default({}) })
  .meta({ id: "CreateUser", examples: [{ name: "alice", roles: { default: "operator" } }] });
export type CreateUser = z.infer<typeof CreateUser>;

/** What of a user can be changed; a role of null takes the one he has. */
export const ChangeUser = z
  .strictObject({ admin: z.boolean().optional(), roles: z.record(Name, Role.nullable()).optional() })
  .meta({ id: "ChangeUser", examples: [{ roles: { default: "viewer" } }] });
export type ChangeUser = z.infer<typeof ChangeUser>;

export const UserParams = z.object({ user: IdOrName });
export const ListUsersQuery = PageQuery.omit({ project: true });

/** A user with a code by which a password can be set, once, until it expires. It is told this once and kept nowhere. */
export const UserReset = z.object({ user: User, code: z.string(), expiresAt: Timestamp }).meta({ id: "UserReset" });
export type UserReset = z.infer<typeof UserReset>;

const password = z.string().min(1).max(256);

/** Logging in. */
export const LogIn = z
  .strictObject({ user: Name, password })
  .meta({ id: "LogIn", examples: [{ user: "alice", password: "correct horse battery" }] });
export type LogIn = z.infer<typeof LogIn>;

/** Who has logged in. Requests that change something send `csrfToken` as `X-CSRF-Token`, with the cookie. */
export const Login = z.object({ user: User, csrfToken: z.string(), expiresAt: Timestamp }).meta({ id: "Login" });
export type Login = z.infer<typeof Login>;

export const ChangePassword = z
  .strictObject({ current: password, password })
  .meta({ id: "ChangePassword", examples: [{ current: "what it was", password: "correct horse battery" }] });
export type ChangePassword = z.infer<typeof ChangePassword>;

export const SetPassword = z
  .strictObject({ code: z.string().min(1).max(200), password })
  .meta({ id: "SetPassword", examples: [{ code: "berthr_…", password: "correct horse battery" }] });
export type SetPassword = z.infer<typeof SetPassword>;

/** A loopback address where a program listens for its user's answer (RFC 8252, section 7.3). */
export const loopbackAddress = /^http:\/\/(127\.0\.0\.1|\[::1\]):\d{1,5}\/[\w/-]*$/;

/**
 * What a program asks of its user: an authorization code for the loopback address where it listens (RFC 8252, section 7.3), which only it can use, since only it knows what
 * the challenge was made of (RFC 7636).
 */
export const AuthorizeProgram = z
  .strictObject({
    clientId: z.literal("berth-cli").describe("The program: Berth's own command line."),
    redirectUri: z.string().max(200).regex(loopbackAddress, "must be a loopback address: http://127.0.0.1:PORT/…"),
    codeChallenge: z
      .string()
      .regex(/^[\w-]{43}$/, "must be a SHA-256 in base64url")
      .describe("S256 of the program's code verifier."),
    scopes: z.array(TokenScope).min(1).max(64).nullable().default(null).describe("All that the user may do when null."),
  })
  .meta({
    id: "AuthorizeProgram",
    examples: [
      {
        clientId: "berth-cli",
        redirectUri: "http://127.0.0.1:41234/",
        codeChallenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
      },
    ],
  });
export type AuthorizeProgram = z.infer<typeof AuthorizeProgram>;

export const ProgramAuthorization = z
  .object({ code: z.string().describe("For the program: it works once, within a minute.") })
  .meta({ id: "ProgramAuthorization" });
export type ProgramAuthorization = z.infer<typeof ProgramAuthorization>;

/** What a user says to a device that shows him a code (RFC 8628). */
export const AuthorizeDevice = z
  .strictObject({
    userCode: z.string().min(1).max(20).describe("As the device shows it; small letters and other dashes are fine."),
    allow: z.boolean(),
  })
  .meta({ id: "AuthorizeDevice", examples: [{ userCode: "WDJB-MJHT", allow: true }] });
export type AuthorizeDevice = z.infer<typeof AuthorizeDevice>;

/** Who sends a request, as berthd sees him. */
export const WhoAmI = z
  .object({
    kind: z.enum(["user", "token"]),
    id: z.string(),
    name: z.string(),
    admin: User.shape.admin,
    roles: Roles,
    project: Name.describe("The project of requests that name none."),
    scopes: z.array(TokenScope).nullable(),
    expiresAt: Timestamp.nullable(),
    csrfToken: z.string().nullable().describe("Of the session; null for a token."),
  })
  .meta({ id: "WhoAmI" });
export type WhoAmI = z.infer<typeof WhoAmI>;
