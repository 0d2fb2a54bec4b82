import { afterEach, describe, expect, test } from "vitest";
import { makeToken } from "../identity/tokens.ts";
import { testServer } from "./testing/test-server.ts";

const servers: { close(): Promise<unknown> }[] = [];
afterEach(() => Promise.all(servers.splice(0).map((server) => server.close())));

/** A server that allows so many requests a second, ten seconds' worth at once. */
function serve(requestsPerSecond: number) {
  const { app, services } = testServer({ requestsPerSecond });
  servers.push(app);
  const send = (authorization: string, url = "/api/v1/instances/web") =>
    app.inject({ url, headers: { host: "localhost", authorization } });
  const newToken = () => {
    const token = makeToken();
    services.addToken(token, { project: "default", role: "viewer" });
    return `Bearer ${token}`;
  };
  return { app, send, newToken };
}

const statuses = async (count: number, send: () => Promise<{ statusCode: number }>) =>
  (await Promise.all(Array.from({ length: count }, send))).map(({ statusCode }) => statusCode);

describe("more requests than the rate allows", () => {
  test("are refused, with how long to wait; others are served", async () => {
    const { send, newToken } = serve(0.1);
    const [one, other] = [newToken(), newToken()];
    const first = await send(one);
    expect([first.statusCode, first.headers["ratelimit-policy"]]).toEqual([200, '"default";q=1;w=10']);
    expect(first.headers.ratelimit).toBe('"default";r=0;t=10');
    const second = await send(one);
    expect([second.statusCode, second.json().code]).toEqual([429, "rate_limited"]);
    expect(Number(second.headers["retry-after"])).toBeGreaterThan(8);
    expect((await send(other)).statusCode).toBe(200);
  });

  test("negative control: without a rate they are not", async () => {
    const { send, newToken } = serve(0);
    const one = newToken();
    expect(await statuses(50, () => send(one))).toEqual(Array.from({ length: 50 }, () => 200));
  });

  test("by an address that shows wrong tokens or logs in: it is refused, and those who are known from there are served", async () => {
    const { app, send, newToken } = serve(1);
    const known = newToken();
    expect((await send(`Bearer ${makeToken()}`)).statusCode).toBe(401);
    expect((await send(`Bearer ${makeToken()}`)).statusCode).toBe(429);
    for (const [url, payload] of [
      ["/api/v1/login", { user: "alice", password: "right" }],
      ["/oauth/token", "grant_type=password"],
    ] as const) {
      const type = typeof payload === "string" ? "application/x-www-form-urlencoded" : "application/json";
      const headers = { host: "localhost", "content-type": type };
      expect((await app.inject({ method: "POST", url, payload, headers })).statusCode).toBe(429);
    }
    expect((await send(known)).statusCode).toBe(200);
  });
});
