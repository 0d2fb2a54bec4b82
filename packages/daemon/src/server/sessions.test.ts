import { createHash } from "node:crypto";
import { Script } from "node:vm";
import type { InjectOptions } from "fastify";
import { afterEach, describe, expect, test } from "vitest";
import { createServer, type Tuning } from "./create-server.ts";
import { FakeServices } from "./testing/fake-services.ts";
import { testServer } from "./testing/test-server.ts";

const servers: { close(): Promise<unknown> }[] = [];
afterEach(() => Promise.all(servers.splice(0).map((server) => server.close())));

/** A server, and somebody who has logged in. */
async function logIn(tuning: Partial<Tuning> = {}) {
  const { app, services } = testServer(tuning);
  servers.push(app);
  const payload = { user: "alice", password: "right" };
  const login = await app.inject({ method: "POST", url: "/api/v1/login", headers: { host: "localhost" }, payload });
  const cookie = String(login.headers["set-cookie"]).split(";")[0] ?? "";
  const csrf = login.json().csrfToken as string;
  const send = (options: InjectOptions) =>
    app.inject({ ...options, headers: { host: "localhost", cookie, ...options.headers } });
  return { app, services, login, cookie, csrf, send };
}

test("a session is in a cookie that scripts cannot read and other sites do not send", async () => {
  const { login, send } = await logIn();
  expect(login.headers["set-cookie"]).toMatch(
    /^berth-session=berths_[0-9A-Za-z]{38}; Path=\/; HttpOnly; SameSite=Strict; Expires=/,
  );
  expect((await send({ url: "/api/v1/whoami" })).json()).toMatchObject({ kind: "user", name: "alice" });
  expect(login.body).not.toContain("berths_");
});

test("with TLS the cookie is kept to this host and to TLS", async () => {
  const services = new FakeServices();
  services.addUser({ name: "alice", admin: false, roles: {} });
  const app = createServer({ services, publicUrl: new URL("https://berth.example") });
  servers.push(app);
  const login = await app.inject({
    method: "POST",
    url: "/api/v1/login",
    headers: { host: "berth.example" },
    payload: { user: "alice", password: "right" },
  });
  expect(login.headers["strict-transport-security"]).toBe("max-age=31536000");
  expect(login.headers["set-cookie"]).toMatch(
    /^__Host-berth=berths_\w+; Path=\/; HttpOnly; SameSite=Strict; Secure; Expires=/,
  );
});

describe("a request that another page has the browser send", () => {
  const stop = { method: "POST", url: "/api/v1/instances/web/stop" } as const;

  test("changes nothing: it has no X-CSRF-Token of the session", async () => {
    const { send, csrf } = await logIn();
    for (const headers of [{}, { "x-csrf-token": "" }, { "x-csrf-token": `${csrf}x` }, { "x-csrf-token": "é" }]) {
      const answer = await send({ ...stop, headers });
      expect([answer.statusCode, answer.json().code]).toEqual([403, "forbidden"]);
    }
    expect((await send({ ...stop, headers: { "x-csrf-token": csrf } })).statusCode).toBe(202);
    expect((await send({ url: "/api/v1/instances" })).statusCode).toBe(200);
  });

  test("negative control: it would", async () => {
    const { send } = await logIn({ without: ["forgery-check"] });
    expect((await send(stop)).statusCode).toBe(202);
  });

  test("logs nobody in", async () => {
    const { app } = await logIn();
    const answer = await app.inject({
      method: "POST",
      url: "/api/v1/login",
      headers: { host: "localhost", origin: "https://evil.example" },
      payload: { user: "alice", password: "right" },
    });
    expect([answer.statusCode, answer.headers["set-cookie"]]).toEqual([403, undefined]);
  });
});

test("who logs out is out, and the cookie is dropped", async () => {
  const { send, csrf } = await logIn({ tokenCacheMs: 0 });
  const answer = await send({ method: "POST", url: "/api/v1/logout", headers: { "x-csrf-token": csrf } });
  expect(answer.statusCode).toBe(204);
  expect(answer.headers["set-cookie"]).toMatch(/^berth-session=; .*Expires=Thu, 01 Jan 1970/);
  expect((await send({ url: "/api/v1/whoami" })).statusCode).toBe(401);
});

test("a token has no session to end and no password to change", async () => {
  const server = testServer();
  servers.push(server.app);
  const payload = { current: "a", password: "b" };
  for (const request of [{ url: "/api/v1/logout" }, { url: "/api/v1/password", payload }])
    expect((await server.send({ method: "POST", ...request })).json().code).toBe("no_session");
});

test.each(["/password", "/oauth/authorize", "/device"])("the page %s runs its own script and no other", async (url) => {
  const { app } = await logIn();
  const answer = await app.inject({ url, headers: { host: "localhost" } });
  expect(answer.statusCode).toBe(200);
  const policy = String(answer.headers["content-security-policy"]);
  expect(policy).toMatch(/default-src 'none'.*script-src 'sha256-[^']+'; connect-src 'self'/);
  for (const tag of ["script", "style"]) {
    const text = new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`).exec(answer.body)?.[1] ?? "";
    expect(policy).toContain(`'sha256-${createHash("sha256").update(text).digest("base64")}'`);
    if (tag === "script") expect(() => new Script(text)).not.toThrow();
  }
});
