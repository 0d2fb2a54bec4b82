import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Client, createClient, type ErrorCode, type Route, routes } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { eventually } from "../support/eventually.ts";
import { storeSettings } from "../support/postgres.ts";
import { expectRefused } from "../support/refusals.ts";
import { berthOf } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";

const image = "localhost/any:latest";
const long = { wait: 60 } as const;
/** The detail is of no concern here. */
const refused = (asked: Promise<unknown>, code: ErrorCode) => expectRefused(asked, code, "");

describe.each(["sqlite", "postgres"] as const)("with %s", (kind) => {
  let scratch: string;
  let env: Record<string, string>;
  let berthd: Berthd;
  let admin: Client;

  beforeAll(async () => {
    scratch = await scratchDirectory("access");
    env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", ...(await storeSettings(kind)) };
    berthd = await startBerthd({ dataDir: join(scratch, "data"), env });
    admin = berthd.client;
    await mkdir(join(scratch, "context"));
    await writeFile(join(scratch, "context/Dockerfile"), 'FROM scratch\nCOPY Dockerfile /\nCMD ["/none"]\n');
  });
  afterAll(() => berthd?.stop());

  /** A project with one of everything that is easily made, and a client that administers it. */
  async function makeProject(project: string) {
    await admin.createProject({ body: { name: project } });
    const query = { ...long, project };
    const source = { type: "directory", path: join(scratch, "context") } as const;
    const { image: built } = await admin.buildImage({ query, body: { source, reference: image } });
    const body = { image, name: `web-of-${project}` };
    const { instance } = await admin.createInstance({ query, body });
    const { snapshot, operation } = await admin.createSnapshot({ query, body: { instance: instance.id } });
    const { id: archive } = await admin.createArchive({
      query: { project },
      body: { name: "x.berth", sizeBytes: 3, beginning: "0".repeat(64) },
    });
    const { token, secret } = await admin.createToken({ query: { project }, body: { name: "own", role: "admin" } });
    return {
      ids: { image: built.id, instance: instance.id, snapshot: snapshot.id, archive, operation: operation.id },
      token,
      secret,
      client: createClient({ url: berthd.url, token: secret }),
    };
  }

  /** All there is in a project, as its list requests tell it. */
  const contentsOf = async (project: string) => {
    const query = { project };
    const lists = await Promise.all([
      admin.listInstances({ query }),
      admin.listImages({ query }),
      admin.listSnapshots({ query }),
      admin.listArchives({ query }),
      admin.listOperations({ query }),
      admin.listTokens({ query }),
    ]);
    return lists.map(({ items }) => items.map(({ id, ...one }) => [id, "generation" in one ? one.generation : ""]));
  };

  it("no request reaches an object of another project, whatever it names it by, and lists show none", async () => {
    const mine = await makeProject("mine");
    const other = await makeProject("other");
    const before = await contentsOf("other");
    const answers: [string, number][] = [];
    for (const [name, route] of Object.entries<Route>(routes)) {
      const param = /:(\w+)/.exec(route.path)?.[1] ?? "";
      const id = { ...other.ids, token: other.token.id, project: "other" }[param];
      if (id === undefined || route.kind === "websocket") continue;
      const query = route.query && "path" in route.query.shape ? "?path=/etc" : "";
      const [example] = (route.body?.meta()?.examples ?? []) as unknown[];
      const type = { tar: "application/x-tar", upload: "application/offset+octet-stream" }[route.kind as string];
      const isStream = type !== undefined && ["PUT", "PATCH"].includes(route.method);
      const contentType = isStream ? type : route.body && "application/json";
      const body = isStream ? Buffer.alloc(512) : route.body && JSON.stringify(example);
      const answer = await fetch(`${berthd.url}${route.path.replace(`:${param}`, id)}${query}`, {
        method: route.method,
        headers: {
          authorization: `Bearer ${mine.secret}`,
          "upload-offset": "0",
          ...(contentType ? { "content-type": contentType } : {}),
        },
        ...(body ? { body } : {}),
      });
      await answer.arrayBuffer();
      answers.push([name, answer.status]);
    }
    expect(answers.length).toBeGreaterThan(35);
    expect(answers.filter(([, status]) => status !== 404 && status !== 403)).toEqual([]);

    const { ids, client } = { ids: other.ids, client: mine.client };
    const me = { instance: mine.ids.instance };
    const refusals = [
      () => client.createInstance({ body: { image: ids.image } }),
      () => client.rebuildInstance({ params: me, body: { image: ids.image } }),
      () => client.createSnapshot({ body: { instance: ids.instance } }),
      () => client.createSnapshot({ body: { instance: "web-of-other" } }),
      () => client.createPool({ body: { name: "spare", image: ids.image, size: 1 } }),
      () => client.restoreSnapshot({ params: { snapshot: mine.ids.snapshot }, body: { instance: ids.instance } }),
      () => client.restoreSnapshot({ params: { snapshot: ids.snapshot }, body: { instance: mine.ids.instance } }),
      () => client.exec(ids.instance, { command: ["true"] }).exit,
      () => client.console(ids.instance).exit,
    ];
    for (const ask of refusals) await refused(ask(), "not_found");
    expect((await client.listSnapshots({ query: { instance: ids.instance } })).items).toEqual([]);
    await refused(client.listInstances({ query: { project: "other" } }), "forbidden");
    expect((await client.listInstances()).items.map(({ id }) => id)).toEqual([mine.ids.instance]);
    expect((await client.listProjects()).items.map(({ name }) => name)).toEqual(["mine"]);
    expect((await client.listTokens()).items.map(({ project }) => project)).toEqual(["mine"]);
    expect((await client.listEvents()).items.every(({ project }) => project === "mine")).toBe(true);
    expect(await contentsOf("other")).toEqual(before);
  });

  it("a project that holds anything is not deleted; an empty one goes with its tokens", async () => {
    const { client } = await makeProject("full");
    const params = { project: "full" };
    await refused(admin.deleteProject({ params }), "project_in_use");
    const query = { ...long, project: "full", force: true };
    for (const { id } of (await client.listSnapshots()).items)
      await client.deleteSnapshot({ params: { snapshot: id }, query: long });
    for (const { id } of (await client.listInstances()).items)
      await client.deleteInstance({ params: { instance: id }, query });
    await refused(admin.deleteProject({ params }), "project_in_use");
    for (const { id } of (await client.listImages()).items)
      await client.deleteImage({ params: { image: id }, query: long });
    for (const { id } of (await client.listArchives()).items)
      await client.deleteArchive({ params: { archive: id }, query: long });
    await eventually(async () => expect((await admin.deleteProject({ params })).name).toBe("full"));
    await refused(client.listInstances(), "unauthenticated");
    await refused(admin.listInstances({ query: { project: "full" } }), "not_found");
    await refused(admin.deleteProject({ params: { project: "default" } }), "project_in_use");
  });

  it("nobody gives a token more than he has, and a secret is told once", async () => {
    const query = { project: "default" };
    const { secret } = await admin.createToken({
      query,
      body: { name: "maker", role: "admin", scopes: ["token", "instance:read"] },
    });
    const maker = createClient({ url: berthd.url, token: secret });
    await refused(maker.createToken({ body: { name: "all", role: "admin" } }), "forbidden");
    await refused(maker.createToken({ body: { name: "more", scopes: ["instance"] } }), "forbidden");
    await refused(maker.createToken({ body: { name: "sys", system: true, scopes: ["token"] } }), "forbidden");
    await refused(maker.listImages(), "forbidden");
    const past = { name: "past", scopes: ["token"], expiresAt: "2020-01-01T00:00:00.000Z" };
    await refused(maker.createToken({ body: past }), "invalid_request");
    const made = await maker.createToken({ body: { name: "look", scopes: ["instance:read"] } });
    expect(made.secret.startsWith(made.token.prefix)).toBe(true);
    await refused(maker.createToken({ body: { name: "look", scopes: ["instance:read"] } }), "name_taken");
    const looking = createClient({ url: berthd.url, token: made.secret });
    await looking.listInstances();
    await eventually(async () =>
      expect(await maker.getToken({ params: { token: "look" } })).toMatchObject({ lastUsedAt: expect.any(String) }),
    );
    const told = JSON.stringify([await admin.listTokens(), await admin.listEvents(), await admin.listOperations()]);
    expect(told).not.toContain(made.secret);
    if (kind === "sqlite") expect((await readFile(join(scratch, "data/berth.db"))).includes(made.secret)).toBe(false);
  });

  it("a token that expires is refused, and what is open under it ends", async () => {
    const expiresAt = new Date(Date.now() + 1500).toISOString();
    const { secret } = await admin.createToken({ body: { name: "brief", expiresAt } });
    const headers = { authorization: `Bearer ${secret}` };
    const stream = await fetch(`${berthd.url}/api/v1/events/stream`, { headers });
    expect(stream.status).toBe(200);
    await stream.text();
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(expiresAt));
    expect((await fetch(`${berthd.url}/api/v1/instances`, { headers })).status).toBe(401);
  });

  it("a revoked token is refused at once and what is open under it ends, on every berthd of the store", async () => {
    const { token, secret } = await admin.createToken({ body: { name: "gone", role: "operator" } });
    const headers = { authorization: `Bearer ${secret}` };
    const daemons = [berthd];
    if (kind === "postgres") daemons.push(await startBerthd({ dataDir: join(scratch, "second"), env }));
    const streams = await Promise.all(daemons.map(({ url }) => fetch(`${url}/api/v1/events/stream`, { headers })));
    expect(streams.map(({ status }) => status)).toEqual(daemons.map(() => 200));
    const began = performance.now();
    await admin.deleteToken({ params: { token: "gone" } });
    expect((await fetch(`${berthd.url}/api/v1/instances`, { headers })).status).toBe(401);
    await Promise.all(streams.map((stream) => stream.text()));
    expect(performance.now() - began).toBeLessThan(1000);
    for (const { url } of daemons) expect((await fetch(`${url}/api/v1/instances`, { headers })).status).toBe(401);
    await refused(admin.getToken({ params: { token: token.id } }), "not_found");
    await daemons[1]?.stop();
  });

  it("the command line makes, uses and revokes them", async () => {
    const cli = berthOf(berthd);
    expect(await cli.berth("project", "create", "lab")).toBe("lab\n");
    const words = ["--name", "ci", "--role", "operator", "--project", "lab", "--expires", "30d"];
    const secret = (await cli.berth("token", "create", ...words)).trim();
    const ci = berthOf({ url: berthd.url, token: secret });
    expect(await ci.berth("project", "ls", "-q")).toBe("lab\n");
    expect(await ci.berth("ls", "-q")).toBe("");
    expect(await ci.run(["token", "ls"])).toMatchObject({ code: 1, stderr: expect.stringContaining("may not list") });
    expect(await cli.berth("token", "show", "ci", "--project", "lab")).toMatch(/Role: +operator/);
    expect(await cli.berth("token", "rm", "ci", "--project", "lab")).toBe("ci\n");
    expect(await ci.run(["ls"])).toMatchObject({ code: 1, stderr: expect.stringContaining("not known") });
    expect(await cli.berth("project", "rm", "lab")).toBe("lab\n");
  });

  it("the token in the data folder comes back as another one when it was revoked", async () => {
    const dataDir = join(scratch, "third");
    const own = { ...env, ...(await storeSettings(kind)) };
    const first = await startBerthd({ dataDir, env: own });
    const [kept] = (await first.client.listTokens()).items;
    expect(kept).toMatchObject({ name: expect.stringMatching(/^admin-of-/), project: null });
    await first.client.deleteToken({ params: { token: kept?.id ?? "" } });
    await refused(first.client.listTokens(), "unauthenticated");
    await first.stop();
    const second = await startBerthd({ dataDir, env: own });
    expect(second.token).not.toBe(first.token);
    expect((await second.client.listTokens()).items).toMatchObject([{ name: kept?.name }]);
    await refused(createClient({ url: second.url, token: first.token }).listTokens(), "unauthenticated");
    await second.stop();
  });
});
