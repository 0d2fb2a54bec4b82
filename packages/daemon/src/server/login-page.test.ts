import { createContext, runInContext } from "node:vm";
import { afterEach, expect, test } from "vitest";
import { testServer } from "./testing/test-server.ts";

const servers: { close(): Promise<unknown> }[] = [];
afterEach(() => Promise.all(servers.splice(0).map((server) => server.close())));

/** What the script of /oauth/authorize does when it is opened like that: whom it asks for, and what it says. */
async function opened(search: Readonly<Record<string, string>>) {
  const { app } = testServer();
  servers.push(app);
  const { body } = await app.inject({ url: "/oauth/authorize", headers: { host: "localhost" } });
  const script = /<script>([\s\S]*?)<\/script>/.exec(body)?.[1] ?? "";
  const asked: string[] = [];
  const output = { textContent: "" };
  const part = { hidden: true, addEventListener() {} };
  const document = { getElementById: () => part, querySelector: () => output };
  const fetch = async (path: string) => {
    asked.push(path);
    return { ok: false };
  };
  const location = { search: `?${new URLSearchParams(search)}`, origin: "http://localhost" };
  runInContext(script, createContext({ document, fetch, location, URLSearchParams, URL }));
  return { asked, said: output.textContent };
}

const request = { response_type: "code", code_challenge_method: "S256" };

test.each(["http://127.0.0.1:4000/", "http://[::1]:4000/back"])(
  "the login page asks who is there for %s",
  async (uri) => {
    expect(await opened({ ...request, redirect_uri: uri })).toEqual({ asked: ["/api/v1/whoami"], said: "" });
  },
);

test.each([
  ["another host", { ...request, redirect_uri: "https://evil.example/" }],
  ["a name that begins like the address", { ...request, redirect_uri: "http://127.0.0.1:4000@evil.example/" }],
  ["a script", { ...request, redirect_uri: "javascript:alert(1)" }],
  ["no address", request],
  ["a challenge that is none", { ...request, code_challenge_method: "plain", redirect_uri: "http://127.0.0.1:4000/" }],
] as const)("the login page asks nobody for %s, so no answer is sent there", async (_what, search) => {
  const { asked, said } = await opened(search);
  expect(asked).toEqual([]);
  expect(said).toContain("not one that berth login made");
});
