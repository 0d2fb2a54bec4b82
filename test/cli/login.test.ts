import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@berth/api";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Ran, runBerth } from "../../packages/cli/src/testing/run-berth.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { storeSettings } from "../support/postgres.ts";
import { expectRefused } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";

const password = "correct horse battery";

interface KeptLogin {
  readonly url: string;
  readonly refreshToken: string;
  readonly accessToken: string;
  readonly expiresAt: number;
}

describe.each(["sqlite", "postgres"] as const)("with %s", (kind) => {
  let berthd: Berthd;
  let config: string;

  beforeAll(async () => {
    const dataDir = join(await scratchDirectory("login"), "data");
    berthd = await startBerthd({ dataDir, env: { BERTH_DRIVER: "fake", ...(await storeSettings(kind)) } });
    const { code } = await berthd.client.createUser({ body: { name: "alice", roles: { default: "operator" } } });
    await berthd.client.setPassword({ body: { code, password } });
  });
  afterAll(() => berthd?.stop());
  beforeEach(async () => {
    config = await scratchDirectory("login-config");
  });

  /** A command of a user who has only what is in `config`; with a desktop whose browser shows nothing. */
  const berth = (
    words: string,
    browse: (said: string) => Promise<void> = async () => {},
    env: Record<string, string> = {},
  ): Promise<Ran> => {
    let browsing: Promise<void> | undefined;
    const outside = { BERTH_URL: "", BERTH_TOKEN: "", XDG_CONFIG_HOME: config, DISPLAY: ":9", BROWSER: "true", ...env };
    const ran = runBerth(words.split(" "), {
      env: outside,
      onSaid: (said) => {
        if (said.includes("http")) browsing ??= browse(said);
      },
    });
    return Promise.all([ran, ran.then(() => browsing)]).then(([result]) => result);
  };

  /** Sends what a page of berthd sends once alice has logged in on it. */
  async function inBrowser(path: string, body: object): Promise<Response> {
    const headers = { "content-type": "application/json" };
    const login = await fetch(`${berthd.url}/api/v1/login`, {
      method: "POST",
      headers,
      body: JSON.stringify({ user: "alice", password }),
    });
    const { csrfToken } = (await login.json()) as { csrfToken: string };
    const cookie = login.headers.get("set-cookie")?.split(";")[0] ?? "";
    return fetch(`${berthd.url}${path}`, {
      method: "POST",
      headers: { ...headers, cookie, "x-csrf-token": csrfToken },
      body: JSON.stringify(body),
    });
  }

  const asked = (said: string) => new URL(/http\S+/.exec(said)?.[0] ?? "").searchParams;
  /** Goes to the address that the program listens at. */
  const back = async (search: URLSearchParams, answer: Record<string, string>) => {
    const url = new URL(search.get("redirect_uri") ?? "");
    url.search = String(new URLSearchParams({ state: search.get("state") ?? "", iss: berthd.url, ...answer }));
    return (await fetch(url)).text();
  };
  const codeFor = async (search: URLSearchParams): Promise<string> => {
    const answer = await inBrowser("/api/v1/login/program", {
      clientId: search.get("client_id"),
      redirectUri: search.get("redirect_uri"),
      codeChallenge: search.get("code_challenge"),
    });
    expect(answer.status).toBe(201);
    return ((await answer.json()) as { code: string }).code;
  };
  const allow = async (said: string) => {
    const search = asked(said);
    expect(await back(search, { code: await codeFor(search) })).toContain("You are logged in");
  };
  const logIn = () => berth(`login ${berthd.url}`, allow);
  const file = () => join(config, "berth/login.json");
  const kept = () => JSON.parse(readFileSync(file(), "utf8")) as KeptLogin;

  const exchange = async (form: Record<string, string>): Promise<[number, string]> => {
    const answer = await fetch(`${berthd.url}/oauth/token`, { method: "POST", body: new URLSearchParams(form) });
    const { error = "" } = (await answer.json()) as { error?: string };
    return [answer.status, error];
  };
  const refresh = ({ refreshToken }: KeptLogin) =>
    exchange({ grant_type: "refresh_token", refresh_token: refreshToken, client_id: "berth-cli" });

  it("berth login goes through the browser; commands are one's own until berth logout", async () => {
    expect(await logIn()).toMatchObject({ code: 0, stdout: `Logged in to ${berthd.url} as alice.\n` });
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect((await berth("whoami")).stdout).toMatch(/Name: +alice\n/);
    expect(await berth("user ls")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("Only who administers the whole system"),
    });
    const login = kept();
    expect(await berth("logout")).toMatchObject({ code: 0, stdout: `Logged out of ${berthd.url}.\n` });
    expect(await refresh(login)).toEqual([400, "invalid_grant"]);
    const asBefore = createClient({ url: berthd.url, token: login.accessToken });
    await expectRefused(asBefore.whoAmI(), "unauthenticated", "");
    expect(await berth("logout")).toMatchObject({ code: 1, stderr: expect.stringContaining("Nobody is logged in") });
  });

  it("a second login ends the first, and BERTH_TOKEN goes before both", async () => {
    await logIn();
    const first = kept();
    await logIn();
    expect(await refresh(first)).toEqual([400, "invalid_grant"]);
    const env = { BERTH_TOKEN: berthd.token, BERTH_URL: berthd.url };
    expect((await berth("whoami", undefined, env)).stdout).toMatch(/Kind: +token\n/);
    expect((await berth("whoami", undefined, { BERTH_URL: "http://127.0.0.1:1" })).code).toBe(1);
  });

  it("many commands at once renew the access token once", async () => {
    await logIn();
    const before = kept();
    writeFileSync(file(), JSON.stringify({ ...before, expiresAt: Date.now() }));
    const all = await Promise.all(Array.from({ length: 6 }, () => berth("whoami")));
    expect(all.map(({ code, stderr }) => [code, stderr])).toEqual(all.map(() => [0, ""]));
    expect(kept().refreshToken).not.toBe(before.refreshToken);
    expect(await berth("whoami")).toMatchObject({ code: 0 });
  });

  it("a login that has ended says so", async () => {
    await logIn();
    await fetch(`${berthd.url}/oauth/revoke`, {
      method: "POST",
      body: new URLSearchParams({ token: kept().refreshToken }),
    });
    writeFileSync(file(), JSON.stringify({ ...kept(), expiresAt: Date.now() }));
    expect(await berth("whoami")).toMatchObject({ code: 1, stderr: expect.stringContaining("berth login") });
  });

  it("refused in the browser, or of another login's page: nobody is logged in", async () => {
    const refused = await berth(`login ${berthd.url}`, async (said) => {
      const search = asked(said);
      const foreign = new URLSearchParams(search);
      foreign.set("state", "x");
      expect(await back(foreign, { code: "berthc_x" })).toBe("");
      expect(await back(search, { error: "access_denied" })).toContain("not logged in");
    });
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("The login was refused") });
    expect(() => kept()).toThrow("ENOENT");
  });

  it("a code is for the program that asked alone; shown twice it ends the login", async () => {
    const clientId = "berth-cli";
    const redirectUri = "http://127.0.0.1:9/";
    // The pair of RFC 7636, appendix B.
    const codeChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const search = new URLSearchParams({
      client_id: clientId,
      redirect_uri: redirectUri,
      code_challenge: codeChallenge,
    });
    const shown = (code: string, more: Record<string, string> = {}) => ({
      grant_type: "authorization_code",
      client_id: clientId,
      redirect_uri: redirectUri,
      code_verifier: verifier,
      code,
      ...more,
    });
    for (const wrong of [{ code_verifier: `${verifier}x` }, { redirect_uri: "http://127.0.0.1:10/" }]) {
      const code = await codeFor(search);
      expect(await exchange(shown(code, wrong))).toEqual([400, "invalid_grant"]);
      expect(await exchange(shown(code))).toEqual([400, "invalid_grant"]);
    }
    const code = await codeFor(search);
    expect(await exchange(shown(code, { client_id: "other" }))).toEqual([400, "invalid_client"]);
    const answer = await fetch(`${berthd.url}/oauth/token`, { method: "POST", body: new URLSearchParams(shown(code)) });
    const { access_token: token } = (await answer.json()) as { access_token: string };
    expect(await createClient({ url: berthd.url, token }).whoAmI()).toMatchObject({ name: "alice" });
    expect(await exchange(shown(code))).toEqual([400, "invalid_grant"]);
    await expectRefused(createClient({ url: berthd.url, token }).whoAmI(), "unauthenticated", "");
    const elsewhere = { clientId, codeChallenge, redirectUri: "https://evil.example/" };
    expect((await inBrowser("/api/v1/login/program", elsewhere)).status).toBe(400);
    const byToken = berthd.client.authorizeProgram({ body: { clientId, codeChallenge, redirectUri } });
    await expectRefused(byToken, "no_session", "");
  });

  it("where there is no browser a code is shown, which works typed in anyhow; or is refused", async () => {
    const decide = (isAllowed: boolean) => async (said: string) => {
      const userCode = /the code (\S+)\./.exec(said)?.[1] ?? "";
      expect(said).toContain(`${berthd.url}/device#${userCode}`);
      const body = { userCode: userCode.replace("-", " ").toLowerCase(), allow: isAllowed };
      expect((await inBrowser("/api/v1/login/device", body)).status).toBe(204);
      expect((await inBrowser("/api/v1/login/device", body)).status).toBe(404);
    };
    const noDisplay = { DISPLAY: "" };
    const refused = await berth(`login ${berthd.url}`, decide(false), noDisplay);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("The login was refused") });
    expect(await berth(`login ${berthd.url}`, decide(true), noDisplay)).toMatchObject({ code: 0 });
    expect((await berth("whoami")).stdout).toMatch(/Name: +alice\n/);
    expect(await berth(`login --device ${berthd.url} --json`, decide(true))).toMatchObject({ code: 0 });
  });

  it("a device that asks too often is told so, and what it has fetched is used up", async () => {
    const begin = await fetch(`${berthd.url}/oauth/device_authorization`, {
      method: "POST",
      body: new URLSearchParams({ client_id: "berth-cli" }),
    });
    const { device_code, user_code: userCode } = (await begin.json()) as Record<string, string>;
    const ask = () =>
      exchange({
        grant_type: "urn:ietf:params:oauth:grant-type:device_code",
        client_id: "berth-cli",
        device_code: device_code ?? "",
      });
    expect(await ask()).toEqual([400, "authorization_pending"]);
    expect(await ask()).toEqual([400, "slow_down"]);
    await inBrowser("/api/v1/login/device", { userCode, allow: true });
    expect(await ask()).toEqual([200, ""]);
    expect(await ask()).toEqual([400, "expired_token"]);
  });

  it("Ctrl-C leaves a login, and nothing is kept", async () => {
    const ran = runBerth(["login", berthd.url], {
      env: { BERTH_URL: "", BERTH_TOKEN: "", XDG_CONFIG_HOME: config, DISPLAY: ":9", BROWSER: "true" },
      onSaid: (said, { interrupt }) => {
        if (said.includes("http")) interrupt();
      },
    });
    expect(await ran).toMatchObject({ code: 130 });
    expect(() => kept()).toThrow("ENOENT");
  });
});
