import { readFileSync } from "node:fs";
import { errorCatalogue, type Route, type RouteName, routes } from "@berth/api";
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import type { InjectOptions } from "fastify";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { generatedFiles } from "./generated-files.ts";
import { openApiDocument } from "./openapi.ts";
import { testServer } from "./testing/test-server.ts";

const document = openApiDocument(routes, "0.1.0");
const ajv = new Ajv2020({ strict: false, allErrors: true });
formats.default(ajv);
ajv.addSchema(document as object, "berth");

/** Whether a value fits a place of the document; the place is a JSON pointer. */
function misfits(pointer: string, value: unknown): unknown {
  const validate = ajv.getSchema(`berth#${pointer}`);
  if (!validate) throw new Error(`The document has nothing at ${pointer}.`);
  return validate(value) ? null : validate.errors;
}

const escapePointer = (text: string) => encodeURIComponent(text.replaceAll("~", "~0").replaceAll("/", "~1"));

const server = testServer();
afterAll(() => server.app.close());
const { instance, image, archive, operation, template, pool, namedToken } = server;

/** One request of each route that succeeds. */
const requests: Record<RouteName, InjectOptions> = {
  listInstances: { url: "/api/v1/instances?label=team=a&label=tier&limit=1" },
  createInstance: { url: "/api/v1/instances?wait=1", payload: { image: "nginx", name: "made" } },
  getInstance: { url: `/api/v1/instances/${instance.id}` },
  changeInstance: { url: "/api/v1/instances/web", payload: { memoryMib: 1024, env: { A: null } } },
  startInstance: { url: "/api/v1/instances/web/start" },
  stopInstance: { url: "/api/v1/instances/web/stop?force=true&queue=true" },
  suspendInstance: { url: "/api/v1/instances/web/suspend" },
  restartInstance: { url: "/api/v1/instances/web/restart" },
  deleteInstance: { url: "/api/v1/instances/made?force=true&wait=1" },
  forkInstance: { url: "/api/v1/instances/web/fork?wait=1", payload: { count: 2, name: "trial" } },
  rebuildInstance: { url: "/api/v1/instances/web/rebuild?wait=1", payload: { image: "nginx" } },
  exportInstance: { url: "/api/v1/instances/web/export?environment=false" },
  instanceLogs: { url: "/api/v1/instances/web/logs?tail=10&timestamps=true" },
  execInstance: { url: "/api/v1/instances/web/exec" },
  consoleInstance: { url: "/api/v1/instances/web/console" },
  readFiles: { url: "/api/v1/instances/web/files?path=/etc" },
  writeFiles: {
    url: "/api/v1/instances/web/files?path=/etc",
    payload: Buffer.alloc(1024),
    headers: { "content-type": "application/x-tar" },
  },
  listImages: { url: "/api/v1/images?reference=nginx" },
  pullImage: { url: "/api/v1/images/pull", payload: { reference: "redis" } },
  buildImage: {
    url: "/api/v1/images/build",
    payload: { reference: "app", source: { type: "directory", path: "/src/app" } },
  },
  getImage: { url: `/api/v1/images/${image.id}` },
  deleteImage: { url: `/api/v1/images/${image.id}` },
  listTemplates: { url: "/api/v1/templates?limit=1" },
  getTemplate: { url: `/api/v1/templates/${template.id}` },
  deleteTemplate: { url: `/api/v1/templates/${template.id}?queue=true` },
  pruneTemplates: { url: "/api/v1/templates/prune", payload: { unusedForMs: 0, dryRun: true } },
  exportSnapshot: { url: "/api/v1/snapshots/point/export" },
  listArchives: { url: "/api/v1/archives" },
  getArchive: { url: `/api/v1/archives/${archive.id}` },
  readArchive: { url: `/api/v1/archives/${archive.id}/content` },
  createArchive: {
    url: "/api/v1/archives",
    payload: { name: "web.berth", sizeBytes: 3, beginning: "0".repeat(64) },
  },
  askArchive: { url: `/api/v1/archives/${archive.id}/content` },
  writeArchive: {
    url: `/api/v1/archives/${archive.id}/content`,
    payload: Buffer.alloc(3),
    headers: { "content-type": "application/offset+octet-stream", "upload-offset": "23" },
  },
  importInstance: { url: `/api/v1/archives/${archive.id}/import?wait=1`, payload: { name: "again" } },
  deleteArchive: { url: `/api/v1/archives/${archive.id}` },
  createSnapshot: { url: "/api/v1/snapshots?wait=1", payload: { instance: "web", name: "point" } },
  listSnapshots: { url: "/api/v1/snapshots?instance=web" },
  getSnapshot: { url: "/api/v1/snapshots/point" },
  verifySnapshot: { url: "/api/v1/snapshots/point/verify?wait=1" },
  restoreSnapshot: { url: "/api/v1/snapshots/point/restore?wait=1", payload: { force: true } },
  launchSnapshot: { url: "/api/v1/snapshots/point/launch?wait=1", payload: { name: "web2" } },
  promoteSnapshot: { url: "/api/v1/snapshots/point/promote?wait=1", payload: { reference: "web:golden" } },
  deleteSnapshot: { url: "/api/v1/snapshots/point" },
  listPools: { url: "/api/v1/pools" },
  createPool: { url: "/api/v1/pools", payload: { name: "more", image: "nginx", size: 3 } },
  getPool: { url: `/api/v1/pools/${pool.id}` },
  changePool: { url: "/api/v1/pools/spare", payload: { size: 1 } },
  deletePool: { url: "/api/v1/pools/spare" },
  listOperations: { url: "/api/v1/operations?unfinished=false" },
  getOperation: { url: `/api/v1/operations/${operation.id}` },
  waitOperation: { url: `/api/v1/operations/${operation.id}/wait?timeout=1` },
  watchOperation: { url: `/api/v1/operations/${operation.id}/watch` },
  cancelOperation: { url: `/api/v1/operations/${operation.id}/cancel` },
  operationLog: { url: `/api/v1/operations/${operation.id}/log` },
  listEvents: { url: "/api/v1/events?after=0" },
  streamEvents: { url: "/api/v1/events/stream?after=0" },
  listProjects: { url: "/api/v1/projects" },
  createProject: { url: "/api/v1/projects", payload: { name: "lab" } },
  getProject: { url: "/api/v1/projects/shop" },
  getQuota: { url: "/api/v1/projects/shop/quota" },
  changeQuota: { url: "/api/v1/projects/shop/quota", payload: { instances: 3, cpus: null } },
  deleteProject: { url: "/api/v1/projects/shop" },
  listTokens: { url: "/api/v1/tokens?limit=1" },
  createToken: { url: "/api/v1/tokens", payload: { name: "deploy", role: "operator", scopes: ["instance"] } },
  getToken: { url: "/api/v1/tokens/ci" },
  deleteToken: { url: `/api/v1/tokens/${namedToken.id}` },
  listUsers: { url: "/api/v1/users?limit=1" },
  createUser: { url: "/api/v1/users", payload: { name: "bob", roles: { shop: "viewer" } } },
  getUser: { url: "/api/v1/users/alice" },
  changeUser: { url: "/api/v1/users/alice", payload: { roles: { shop: null } } },
  resetUser: { url: "/api/v1/users/alice/reset" },
  deleteUser: { url: "/api/v1/users/bob" },
  logIn: { url: "/api/v1/login", payload: { user: "alice", password: "right" } },
  logOut: { url: "/api/v1/logout" },
  whoAmI: { url: "/api/v1/whoami" },
  changePassword: { url: "/api/v1/password", payload: { current: "a", password: "b" } },
  setPassword: { url: "/api/v1/password/set", payload: { code: "berthr_x", password: "b" } },
  authorizeProgram: {
    url: "/api/v1/login/program",
    payload: { clientId: "berth-cli", redirectUri: "http://127.0.0.1:4000/", codeChallenge: "a".repeat(43) },
  },
  authorizeDevice: { url: "/api/v1/login/device", payload: { userCode: "WDJB-MJHT", allow: true } },
  listNodes: { url: "/api/v1/nodes" },
  getNode: { url: "/api/v1/nodes/node1" },
};

/** WebSockets and the endless stream are held to the document in their own tests. */
const apart: readonly RouteName[] = ["execInstance", "consoleInstance", "streamEvents"];

/** Requests that only somebody who has logged in sends. */
const ofSession: readonly string[] = ["logOut", "changePassword", "authorizeProgram", "authorizeDevice"];

/** Sends a request in a session that begins with it, and answers its status. */
async function sendLoggedIn(name: RouteName): Promise<number> {
  const { payload } = requests.logIn;
  const login = await server.app.inject({
    method: "POST",
    url: "/api/v1/login",
    headers: { host: "localhost" },
    payload,
  } as InjectOptions);
  const cookie = String(login.headers["set-cookie"]).split(";")[0];
  const headers = { host: "localhost", cookie, "x-csrf-token": login.json().csrfToken };
  return (await server.app.inject({ method: "POST", ...requests[name], headers } as InjectOptions)).statusCode;
}

describe("every answer fits the OpenAPI document", () => {
  for (const [name, route] of Object.entries<Route>(routes)) {
    if (apart.includes(name as RouteName)) continue;
    test(name, async () => {
      // What only somebody who has logged in may do.
      if (ofSession.includes(name)) return expect(await sendLoggedIn(name as RouteName)).toBe(route.status);
      if (name === "cancelOperation")
        server.services.changeOperation(operation.id, { status: "running", endedAt: null });
      const answer = await server.send({ method: route.method, ...requests[name as RouteName] } as InjectOptions);
      expect([answer.statusCode, answer.statusCode === route.status ? "" : answer.body]).toEqual([route.status, ""]);
      const path = escapePointer(route.path.replace(/:(\w+)/g, "{$1}"));
      const responses = `/paths/${path}/${route.method.toLowerCase()}/responses`;
      if (route.kind === "json" && route.response) {
        const pointer = `${responses}/${route.status}/content/${escapePointer("application/json")}/schema`;
        expect(answer.headers["content-type"]).toBe("application/json; charset=utf-8");
        expect(misfits(pointer, answer.json())).toBeNull();
        // Negative control: an answer with one thing more or less does not fit.
        expect(misfits(pointer, { ...(answer.json() as object), more: 1 })).not.toBeNull();
        expect(misfits(pointer, {})).not.toBeNull();
      }
      if (route.kind === "events") {
        const messages = answer.body.match(/(?<=^data: ).*$/gm) ?? [];
        expect(messages.length).toBeGreaterThan(0);
        const pointer = `${responses}/200/content/${escapePointer("text/event-stream")}/schema/x-message`;
        for (const message of messages) expect(misfits(pointer, JSON.parse(message))).toBeNull();
      }
    });
  }

  test("errors of every kind", async () => {
    const wrong: InjectOptions[] = [
      { url: "/api/v1/instances/nobody" },
      { url: "/api/v1/instances?limit=x" },
      { url: "/nowhere" },
      { method: "DELETE", url: "/api/v1/nodes" },
      { url: "/api/v1/instances/web/exec" },
      { url: "/api/v1/instances/%zz" },
      { url: "/api/v1/instances", headers: { authorization: "" } },
      { url: "/api/v1/instances", headers: { host: "evil.example" } },
      { method: "POST", url: "/api/v1/instances", payload: "x", headers: { "content-type": "text/xml" } },
      { method: "POST", url: "/api/v1/instances", payload: "{", headers: { "content-type": "application/json" } },
    ];
    for (const request of wrong) {
      const answer = await server.send(request);
      const problem = answer.json();
      expect(answer.headers["content-type"]).toBe("application/problem+json; charset=utf-8");
      expect(misfits("/components/schemas/Problem", problem)).toBeNull();
      expect(problem.status).toBe(answer.statusCode);
      expect(problem.requestId).toBe(answer.headers["x-request-id"]);
      expect(Object.keys(errorCatalogue)).toContain(problem.code);
      expect(problem.type).toBe(`/docs/errors#${problem.code}`);
    }
  });
});

test("the document itself is OpenAPI 3.1 that says what the table says", () => {
  expect(document.openapi).toBe("3.1.0");
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));
  expect(operations.map(({ operationId }) => operationId).sort()).toEqual(Object.keys(routes).sort());
  // Every reference leads somewhere, and every schema compiles.
  for (const [, name] of JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
    expect(Object.keys(document.components.schemas)).toContain(name);
  }
  for (const name of Object.keys(document.components.schemas)) {
    expect(ajv.getSchema(`berth#/components/schemas/${name}`)).toBeTypeOf("function");
  }
  // Every example is one that would be accepted.
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    for (const example of (schema.examples ?? []) as unknown[])
      expect(misfits(`/components/schemas/${name}`, example)).toBeNull();
  }
});

test("a schema that is different when sent and when received is refused", () => {
  const base = { method: "POST", summary: "x", resource: "node", action: "list", kind: "json", status: 200 } as const;
  const same = z.strictObject({ a: z.string() }).meta({ id: "TestSame" });
  const differs = z.object({ a: z.string().default("") }).meta({ id: "TestDiffers" });
  const table = (schema: z.ZodType) => ({
    one: { ...base, path: "/one", body: schema, response: z.object({ got: schema }) },
  });
  expect(() => openApiDocument(table(z.array(differs)), "1")).toThrow("TestDiffers");
  expect(() => openApiDocument(table(z.array(same)), "1")).not.toThrow();
});

for (const [path, content] of Object.entries(generatedFiles())) {
  test(`${path} is fresh: npm run generate`, () => {
    expect(readFileSync(new URL(`../../../../${path}`, import.meta.url), "utf8")).toBe(content);
  });
}

test("docs/errors.md has a section for each code of the catalogue, and no other", () => {
  const text = readFileSync(new URL("../../../../docs/errors.md", import.meta.url), "utf8");
  const sections = [...text.matchAll(/^## (\w+)$/gm)].map(([, code]) => code);
  expect(sections).toEqual(Object.keys(errorCatalogue));
});
