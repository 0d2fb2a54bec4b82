import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { createClient, type ErrorCode, type Login } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { storeSettings } from "../support/postgres.ts";
import { expectRefused } from "../support/refusals.ts";
import { berthOf } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";

const password = "correct horse battery";
const refused = (asked: Promise<unknown>, code: ErrorCode) => expectRefused(asked, code, "");

describe.each(["sqlite", "postgres"] as const)("with %s", (kind) => {
  let scratch: string;
  let berthd: Berthd;

  beforeAll(async () => {
    scratch = await scratchDirectory("people");
    const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "trace", ...(await storeSettings(kind)) };
    berthd = await startBerthd({ dataDir: join(scratch, "data"), env });
  });
  afterAll(() => berthd?.stop());

  /** A user with a password. */
  async function makeUser(name: string, roles: Record<string, "viewer" | "operator" | "admin"> = {}) {
    const { user, code } = await berthd.client.createUser({ body: { name, roles } });
    await berthd.client.setPassword({ body: { code, password } });
    return user;
  }

  /** The status of a try to log in from another address of loopback. */
  const tryFrom = async (localAddress: string, user: string, given: string) => {
    const headers = { "content-type": "application/json" };
    const asked = request(`${berthd.url}/api/v1/login`, { method: "POST", localAddress, headers });
    asked.end(JSON.stringify({ user, password: given }));
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    answer.resume();
    return answer.statusCode;
  };

  /** Tries to log in. */
  const tryLogin = (user: string, given: string) =>
    fetch(`${berthd.url}/api/v1/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user, password: given }),
    });

  /** Logs in, and sends requests in the session. */
  async function logIn(user: string, given = password) {
    const answer = await tryLogin(user, given);
    expect(answer.status).toBe(201);
    const { csrfToken } = (await answer.json()) as Login;
    const cookie = String(answer.headers.get("set-cookie")).split(";")[0] ?? "";
    const send = (path: string, init: RequestInit = {}) =>
      fetch(`${berthd.url}/api/v1${path}`, {
        ...init,
        headers: { cookie, "x-csrf-token": csrfToken, "content-type": "application/json" },
      });
    return { cookie, send };
  }

  it("the first run makes one admin, whose password is in a file until it has served", async () => {
    const path = join(scratch, "data/initial-admin-password");
    const first = (await readFile(path, "utf8")).trim();
    expect(first).toMatch(/^[a-z2-9]{5}(-[a-z2-9]{5}){3}$/);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await tryLogin("admin", "admin")).status).toBe(401);
    const { send } = await logIn("admin", first);
    expect((await send("/users")).status).toBe(200);
    await expect(stat(path)).rejects.toMatchObject({ code: "ENOENT" });
    const body = JSON.stringify({ current: first, password });
    expect((await send("/password", { method: "POST", body })).status).toBe(204);
    expect((await tryLogin("admin", first)).status).toBe(401);
    expect((await tryLogin("admin", password)).status).toBe(201);
    expect(berthd.log()).not.toContain(first);
  });

  it("a code sets a password once, another voids it, and rules hold", async () => {
    const { client } = berthd;
    const { code, user } = await client.createUser({ body: { name: "bob" } });
    expect(user).toMatchObject({ hasPassword: false, roles: {}, admin: false });
    expect((await tryLogin("bob", "")).status).toBe(400);
    expect((await tryLogin("bob", password)).status).toBe(401);
    await refused(client.setPassword({ body: { code, password: "short" } }), "weak_password");
    const { code: second } = await client.resetUser({ params: { user: "bob" } });
    await refused(client.setPassword({ body: { code, password } }), "reset_expired");
    const both = await Promise.allSettled([1, 2].map(() => client.setPassword({ body: { code: second, password } })));
    expect(both.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    await refused(client.setPassword({ body: { code: second, password } }), "reset_expired");
    expect(await client.getUser({ params: { user: "bob" } })).toMatchObject({ hasPassword: true });
    await refused(client.createUser({ body: { name: "bob" } }), "name_taken");
    await refused(client.createUser({ body: { name: "eve", roles: { nowhere: "admin" } } }), "not_found");
    await refused(client.getUser({ params: { user: "eve" } }), "not_found");
  });

  it("a user may what his roles say, from the next request on", async () => {
    const { client } = berthd;
    await client.createProject({ body: { name: "shop" } });
    await makeUser("carol", { shop: "viewer" });
    const { send } = await logIn("carol");
    expect(await (await send("/whoami")).json()).toMatchObject({ name: "carol", project: "shop", kind: "user" });
    expect((await send("/instances")).status).toBe(200);
    expect((await send("/instances?project=default")).status).toBe(403);
    expect((await send("/users")).status).toBe(403);
    const stream = await send("/events/stream");
    expect(stream.status).toBe(200);
    await client.changeUser({ params: { user: "carol" }, body: { roles: { shop: null, default: "viewer" } } });
    await stream.text();
    expect((await send("/instances?project=shop")).status).toBe(403);
    expect((await send("/instances")).status).toBe(200);
    // Without a role in default, requests are for the first of his projects.
    await client.createProject({ body: { name: "lab" } });
    const roles = { shop: "viewer", lab: "viewer", default: null } as const;
    await client.changeUser({ params: { user: "carol" }, body: { roles } });
    const { items } = (await (await send("/projects")).json()) as { items: { name: string }[] };
    expect(items.map(({ name }) => name).toSorted()).toEqual(["lab", "shop"]);
    expect(await (await send("/whoami")).json()).toMatchObject({ project: "lab" });
    const build = { reference: "x", source: { type: "directory", path: "/etc" } };
    const refusal = await send("/images/build", { method: "POST", body: JSON.stringify(build) });
    expect(refusal.status).toBe(403);
    await client.deleteUser({ params: { user: "carol" } });
    expect((await send("/instances")).status).toBe(401);
  });

  it("a new password ends the other sessions, and logging out this one", async () => {
    await makeUser("dora", { default: "viewer" });
    const [here, there] = [await logIn("dora"), await logIn("dora")];
    const change = (current: string, next: string) =>
      here.send("/password", { method: "POST", body: JSON.stringify({ current, password: next }) });
    expect((await change("wrong password", "another long one")).status).toBe(401);
    expect((await change(password, "another long one")).status).toBe(204);
    expect((await there.send("/whoami")).status).toBe(401);
    expect((await here.send("/whoami")).status).toBe(200);
    expect((await here.send("/logout", { method: "POST" })).status).toBe(204);
    expect((await here.send("/whoami")).status).toBe(401);
  });

  it("who guesses waits, many at once no less, and nobody else does", async () => {
    await makeUser("erin");
    await makeUser("frank");
    const tries = await Promise.all(Array.from({ length: 12 }, () => tryLogin("erin", "a wrong password")));
    expect(tries.filter(({ status }) => status === 401)).toHaveLength(5);
    const refusals = tries.filter(({ status }) => status === 429);
    expect(refusals).toHaveLength(7);
    const wait = Number(refusals[0]?.headers.get("retry-after"));
    expect(wait).toBeGreaterThan(50);
    expect(wait).toBeLessThanOrEqual(60);
    // The right password does not help from there, and is not even looked at.
    expect((await tryLogin("erin", password)).status).toBe(429);
    expect((await tryLogin("frank", password)).status).toBe(201);
    expect(await tryFrom("127.0.0.2", "erin", password)).toBe(201);
    expect((await tryLogin("erin", password)).status).toBe(429);
    // A name that nobody has is answered alike.
    const unknown = await Promise.all(Array.from({ length: 6 }, () => tryLogin("nobody-here", "a wrong password")));
    expect(unknown.map(({ status }) => status).toSorted()).toEqual([401, 401, 401, 401, 401, 429]);
  });

  it("no password or secret is kept or logged in clear", async () => {
    await makeUser("gina", { default: "viewer" });
    const { cookie } = await logIn("gina");
    const { code } = await berthd.client.resetUser({ params: { user: "gina" } });
    const secret = cookie.split("=")[1] ?? "";
    expect(secret).toMatch(/^berths_/);
    const { client } = berthd;
    const told = JSON.stringify([await client.listUsers(), await client.listEvents(), await client.listOperations()]);
    const kept = kind === "sqlite" ? (await readFile(join(scratch, "data/berth.db"))).toString("latin1") : "";
    for (const one of [password, secret, code])
      for (const place of [told, kept, berthd.log()]) expect(place).not.toContain(one);
  });

  it("the command line makes, changes, resets and deletes users", async () => {
    const cli = berthOf(berthd);
    const link = (await cli.berth("user", "create", "hugo", "--role", "operator", "--project", "default")).trim();
    expect(link).toMatch(new RegExp(`^${berthd.url}/password#berthr_[0-9A-Za-z]{38}$`));
    await createClient({ url: berthd.url, token: "" }).setPassword({
      body: { code: link.split("#")[1] ?? "", password },
    });
    expect((await tryLogin("hugo", password)).status).toBe(201);
    expect(await cli.berth("user", "ls")).toMatch(/hugo +default:operator/);
    expect(await cli.berth("user", "set", "hugo", "--role", "none", "--project", "default", "--admin")).toBe("hugo\n");
    expect(await cli.berth("user", "show", "hugo")).toMatch(/Roles: +administers the whole system/);
    expect(await cli.berth("user", "reset", "hugo")).toMatch(/#berthr_/);
    expect(await cli.berth("user", "rm", "hugo")).toBe("hugo\n");
    expect(await cli.run(["user", "show", "hugo"])).toMatchObject({ code: 1 });
    expect(await cli.berth("whoami")).toMatch(/Name: +admin-of-/);
  });
});
