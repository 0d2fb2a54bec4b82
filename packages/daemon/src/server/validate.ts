import { BerthError, type Route } from "@berth/api";
import { z } from "zod";

/** The type of a route's body when that is a stream. */
export function streamTypeOf({ kind, method }: Route): string | undefined {
  if (kind === "tar" && method === "PUT") return "application/x-tar";
  return kind === "upload" && method === "PATCH" ? "application/offset+octet-stream" : undefined;
}

/** The media type of a JSON merge patch (RFC 7396). */
export const mergePatchType = "application/merge-patch+json";

/** Whether a route's body may be called a merge patch, which it is: what it leaves out stays. */
export function takesMergePatch(route: Route): boolean {
  return route.method === "PATCH" && streamTypeOf(route) === undefined;
}

export interface Validated {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

type Part = keyof Validated;

/**
 * Makes the check of a route's requests. Unknown keys of the query are refused, as they are in bodies: a mistyped one would otherwise silently do nothing.
 * Throws `invalid_request` naming every part that is wrong.
 */
export function validator(route: Route): (request: Record<Part, unknown>) => Validated {
  const schemas = {
    params: route.params?.strict() ?? z.strictObject({}),
    query: route.query?.strict() ?? z.strictObject({}),
    body: route.body ?? z.undefined({ error: "this request takes no body" }),
  };
  // Most requests have no query and no body: what comes of nothing is found out once.
  const noQuery = schemas.query.safeParse({});
  const noBody = schemas.body.safeParse(undefined);
  const parse = (part: Part, given: unknown) => {
    if (part === "query" && isEmpty(given)) return noQuery;
    if (part === "body" && given === undefined) return noBody;
    return schemas[part].safeParse(given);
  };
  return (request) => {
    const errors: { path: string; message: string }[] = [];
    const read = (part: Part): unknown => {
      const result = parse(part, request[part]);
      if (result.success) return result.data;
      for (const issue of result.error.issues) errors.push(...describe(part, issue));
      return undefined;
    };
    // A stream is the handler's to read.
    const isStream = streamTypeOf(route) !== undefined;
    const validated = {
      params: read("params"),
      query: read("query"),
      body: isStream ? request.body : read("body"),
    };
    if (errors.length === 0) return validated;
    const [first] = errors;
    throw new BerthError("invalid_request", `${first?.path}: ${first?.message}`, { errors: errors.slice(0, 50) });
  };
}

function isEmpty(query: unknown): boolean {
  for (const _ in query as object) return false;
  return true;
}

/** An issue as problems list it: the path of what is wrong, and why. */
function describe(part: string, issue: z.core.$ZodIssue): { path: string; message: string }[] {
  const path = [part, ...issue.path].join(".");
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({ path: `${path}.${key}`.slice(0, 300), message: "is not known here" }));
  }
  const message = issue.code === "invalid_key" ? (issue.issues[0]?.message ?? issue.message) : issue.message;
  return [{ path: path.slice(0, 300), message }];
}
