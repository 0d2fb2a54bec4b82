import { readFileSync } from "node:fs";
import { type Role, type Route, type RouteName, roles, routes } from "@berth/api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeToken } from "../identity/tokens.ts";
import type { Tuning } from "./create-server.ts";
import { listen, testServer } from "./testing/test-server.ts";
import { streamTypeOf } from "./validate.ts";

const page = readFileSync(new URL("../../../../docs/access.md", import.meta.url), "utf8");
const columns = [...roles, "nobody"] as const;
/** What docs/access.md says of each request: who may send it. */
const table = new Map(
  [...page.matchAll(/^\| `(\w+)` \| [^|]+ \|(.*)\|$/gm)].map(([, name = "", cells = ""]) => [
    name,
    columns.filter((_, at) => cells.split("|")[at]?.trim() === "yes"),
  ]),
);

/** Requests that are for no project. */
const ofNoProject: readonly RouteName[] = [
  ...(["listProjects", "listNodes", "getNode"] as const),
  ...(["logIn", "logOut", "whoAmI", "changePassword", "setPassword", "authorizeProgram", "authorizeDevice"] as const),
];

/** A server with a project `shop` that has an operation, and one caller of each kind. */
async function serve(tuning: Partial<Tuning> = {}) {
  const server = testServer(tuning);
  const { services } = server;
  const operation = services.begin("instance.create", { kind: "instance", id: "i-1", name: "web" }, "shop");
  const add = (caller: Parameters<typeof services.addToken>[1]) => {
    const token = makeToken();
    services.addToken(token, caller);
    return token;
  };
  const callers = {
    nobody: undefined,
    system: server.token,
    ...Object.fromEntries(roles.map((role) => [role, add({ project: "shop", role })])),
    ...Object.fromEntries(roles.map((role) => [`${role} of another project`, add({ project: "default", role })])),
  };
  const url = await listen(server.app);

  /** How a request about something of `shop` is answered: the code of its error; empty for none. */
  const answerOf = async (route: Route, token: string | undefined): Promise<string> => {
    const path = route.path
      .replace(":operation", operation.id)
      .replace(":project", "shop")
      .replace(":archive", "arc-00000000000000099")
      .replace(/:\w+/, "none");
    const query = new URLSearchParams();
    if (route.query && "project" in route.query.shape) query.set("project", "shop");
    if (route.query && "path" in route.query.shape) query.set("path", "/x");
    // Each body's schema has an example that it accepts.
    const [example] = (route.body?.meta()?.examples ?? []) as unknown[];
    const type = streamTypeOf(route) ?? (route.body ? "application/json" : undefined);
    const body = route.body ? JSON.stringify(example) : streamTypeOf(route) ? Buffer.alloc(512) : undefined;
    const left = new AbortController();
    const answer = await fetch(`${url}${path}?${query}`, {
      method: route.method,
      signal: left.signal,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(type === undefined ? {} : { "content-type": type }),
        ...(route.kind === "upload" ? { "upload-offset": "0" } : {}),
      },
      ...(body === undefined ? {} : { body }),
    });
    const code = { 401: "unauthenticated", 403: "forbidden" }[answer.status] ?? "";
    // The answer to HEAD has no body.
    const isProblem = answer.headers.get("content-type")?.includes("problem") && route.method !== "HEAD";
    const answered = isProblem ? ((await answer.json()) as { code: string }).code : code;
    left.abort();
    return answered;
  };
  return { ...server, callers, answerOf };
}

type Served = Awaited<ReturnType<typeof serve>>;

/** What is answered otherwise than the table says. */
async function deviations({ callers, answerOf }: Served, name: RouteName): Promise<string[]> {
  const route: Route = routes[name];
  const may = table.get(name) ?? [];
  const found: string[] = [];
  for (const [caller, token] of Object.entries(callers)) {
    const role = caller.split(" ")[0] as Role;
    const isElsewhere = caller.endsWith("of another project") && !ofNoProject.includes(name);
    const isAllowed = caller === "system" || (may.includes(role) && !isElsewhere);
    const refusal = caller === "nobody" ? "unauthenticated" : "forbidden";
    const expected = isAllowed ? "allowed" : refusal;
    const code = await answerOf(route, token);
    // A request that is not valid would never be judged.
    expect([name, code]).not.toEqual([name, "invalid_request"]);
    const answered = code === "unauthenticated" || code === "forbidden" ? code : "allowed";
    if (answered !== expected) found.push(`${caller}: ${answered} instead of ${expected}`);
  }
  return found;
}

describe("every request, by who sends it", () => {
  let server: Served;
  let open: Served;
  beforeAll(async () => {
    server = await serve();
    open = await serve({ without: ["authorization"] });
  });
  afterAll(() => Promise.all([server.app.close(), open.app.close()]));

  test("docs/access.md has every request, and no other", () => {
    expect([...table.keys()].toSorted()).toEqual(Object.keys(routes).toSorted());
  });

  test.each(Object.keys(routes) as RouteName[])("%s is answered as docs/access.md says", async (name) => {
    expect(await deviations(server, name)).toEqual([]);
  });

  // Negative control: requests that everybody may send show nothing.
  test.each((Object.keys(routes) as RouteName[]).filter((name) => !ofNoProject.includes(name)))(
    "%s would be anybody's without authorize()",
    async (name) => {
      expect(await deviations(open, name)).not.toEqual([]);
    },
  );
});
