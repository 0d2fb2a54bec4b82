import { join } from "node:path";
import { createClient, type ErrorCode } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { storeSettings } from "../support/postgres.ts";
import { expectRefused } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";

const password = "correct horse battery";
const refused = (asked: Promise<unknown>, code: ErrorCode) => expectRefused(asked, code, "");

interface Answer {
  readonly access_token: string;
  readonly refresh_token?: string;
  readonly expires_in: number;
  readonly scope?: string;
}

describe.each(["sqlite", "postgres"] as const)("with %s", (kind) => {
  let dataDir: string;
  let env: Record<string, string>;
  let berthd: Berthd;

  beforeAll(async () => {
    dataDir = join(await scratchDirectory("oauth"), "data");
    env = { BERTH_DRIVER: "fake", ...(await storeSettings(kind)) };
    berthd = await startBerthd({ dataDir, env });
    const { code } = await berthd.client.createUser({ body: { name: "alice", roles: { default: "operator" } } });
    await berthd.client.setPassword({ body: { code, password } });
  });
  afterAll(() => berthd?.stop());

  const post = (path: string, form: Record<string, string>, headers: Record<string, string> = {}) =>
    fetch(`${berthd.url}${path}`, { method: "POST", headers, body: new URLSearchParams(form) });

  async function ask(form: Record<string, string>, headers?: Record<string, string>): Promise<Answer> {
    const answer = await post("/oauth/token", form, headers);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    return (await answer.json()) as Answer;
  }

  /** The error of a refusal, as RFC 6749 names it. */
  async function refusal(form: Record<string, string>, headers?: Record<string, string>): Promise<[number, string]> {
    const answer = await post("/oauth/token", form, headers);
    return [answer.status, ((await answer.json()) as { error: string }).error];
  }

  const logIn = (more: Record<string, string> = {}) =>
    ask({ grant_type: "password", username: "alice", password, ...more });
  const refresh = (token = "") => ({ grant_type: "refresh_token", refresh_token: token });
  const clientWith = (token: string) => createClient({ url: berthd.url, token });

  it("a password gives a short access token and a refresh token, which gives others", async () => {
    const first = await logIn();
    expect(first).toMatchObject({ token_type: "Bearer", expires_in: 600 });
    expect(first.refresh_token).toMatch(/^berthf_[0-9A-Za-z]{38}$/);
    expect(await clientWith(first.access_token).whoAmI()).toMatchObject({ kind: "user", name: "alice" });
    await refused(clientWith(first.access_token).createUser({ body: { name: "eve" } }), "forbidden");
    const second = await ask(refresh(first.refresh_token));
    expect(second.refresh_token).not.toBe(first.refresh_token);
    expect(await clientWith(second.access_token).listInstances()).toMatchObject({ items: [] });
    expect(await refusal({ grant_type: "password", username: "alice", password: "wrong" })).toEqual([
      400,
      "invalid_grant",
    ]);
    expect(berthd.log()).not.toContain(first.access_token);
  });

  it("a login is for the project that a session of the same user is for", async () => {
    for (const name of ["shop", "zoo"]) await berthd.client.createProject({ body: { name } });
    const { code } = await berthd.client.createUser({
      body: { name: "carol", roles: { shop: "viewer", zoo: "viewer" } },
    });
    await berthd.client.setPassword({ body: { code, password } });
    const { access_token } = await ask({ grant_type: "password", username: "carol", password });
    expect(await clientWith(access_token).listInstances()).toMatchObject({ items: [] });
  });

  it("a refresh token shown twice ends the login, with all that descends from it", async () => {
    const first = await logIn();
    const other = await logIn();
    const second = await ask(refresh(first.refresh_token));
    const third = await ask(refresh(second.refresh_token));
    expect(await refusal(refresh(first.refresh_token))).toEqual([400, "invalid_grant"]);
    expect(await refusal(refresh(third.refresh_token))).toEqual([400, "invalid_grant"]);
    for (const { access_token } of [first, second, third])
      await refused(clientWith(access_token).whoAmI(), "unauthenticated");
    expect(await clientWith(other.access_token).whoAmI()).toMatchObject({ name: "alice" });
  });

  it("of many who show one refresh token at once, one at most goes on, and not for long", async () => {
    const { refresh_token } = await logIn();
    const answers = await Promise.all(Array.from({ length: 8 }, () => post("/oauth/token", refresh(refresh_token))));
    const renewed = await Promise.all(
      answers.filter(({ ok }) => ok).map(async (answer) => (await answer.json()) as Answer),
    );
    expect(renewed.length).toBeLessThanOrEqual(1);
    for (const { access_token } of renewed) await refused(clientWith(access_token).whoAmI(), "unauthenticated");
  });

  it("an API token is a client, whose access tokens do no more than it and end with it", async () => {
    const { token, secret } = await berthd.client.createToken({ body: { name: "ci", role: "viewer" } });
    const grant = { grant_type: "client_credentials" };
    const basic = { authorization: `Basic ${Buffer.from(`ci:${secret}`).toString("base64")}` };
    const answer = await ask(grant, basic);
    expect(answer.refresh_token).toBeUndefined();
    const narrowed = await ask({ ...grant, client_id: token.id, client_secret: secret, scope: "image:read" });
    expect(narrowed.scope).toBe("image:read");
    expect(await clientWith(answer.access_token).listInstances()).toMatchObject({ items: [] });
    await refused(clientWith(narrowed.access_token).listInstances(), "forbidden");
    await refused(clientWith(answer.access_token).createInstance({ body: { image: "x" } }), "forbidden");
    expect(await refusal({ ...grant, client_id: "other", client_secret: secret })).toEqual([401, "invalid_client"]);
    expect(await refusal({ ...grant, client_id: "ci", client_secret: "berth_x" })).toEqual([401, "invalid_client"]);
    await berthd.client.deleteToken({ params: { token: "ci" } });
    await refused(clientWith(answer.access_token).whoAmI(), "unauthenticated");
    expect(await refusal(grant, basic)).toEqual([401, "invalid_client"]);
  });

  it("a login ends when it is revoked, with a new password and with its user", async () => {
    const { code } = await berthd.client.createUser({ body: { name: "bob", roles: { default: "viewer" } } });
    await berthd.client.setPassword({ body: { code, password } });
    const bob = () => ask({ grant_type: "password", username: "bob", password });
    const expectEnded = async ({ access_token, refresh_token }: Answer) => {
      await refused(clientWith(access_token).whoAmI(), "unauthenticated");
      expect(await refusal(refresh(refresh_token))).toEqual([400, "invalid_grant"]);
    };
    const revoked = await bob();
    const kept = await bob();
    const headers = { authorization: `Bearer ${revoked.access_token}` };
    const stream = await fetch(`${berthd.url}/api/v1/events/stream`, { headers });
    expect((await post("/oauth/revoke", { token: revoked.refresh_token ?? "" })).status).toBe(200);
    await stream.text();
    await expectEnded(revoked);
    expect(await clientWith(kept.access_token).whoAmI()).toMatchObject({ name: "bob" });
    const reset = await berthd.client.resetUser({ params: { user: "bob" } });
    await berthd.client.setPassword({ body: { code: reset.code, password } });
    await expectEnded(kept);
    const last = await bob();
    await berthd.client.deleteUser({ params: { user: "bob" } });
    await expectEnded(last);
  });

  it("another berthd's start changes nothing: what was issued is good, and its keys are there for all to verify", async () => {
    const { access_token, refresh_token } = await logIn();
    await berthd.stop();
    berthd = await startBerthd({ dataDir, env });
    expect(await clientWith(access_token).whoAmI()).toMatchObject({ name: "alice" });
    await ask(refresh(refresh_token));
    const about = (await (await fetch(`${berthd.url}/.well-known/oauth-authorization-server`)).json()) as {
      jwks_uri: string;
    };
    const { keys } = (await (await fetch(about.jwks_uri)).json()) as { keys: { kid: string }[] };
    const { kid } = JSON.parse(Buffer.from(access_token.split(".")[0] ?? "", "base64url").toString()) as {
      kid: string;
    };
    expect(keys).toContainEqual(expect.objectContaining({ kid, kty: "OKP", crv: "Ed25519", alg: "EdDSA" }));
    expect(JSON.stringify(keys)).not.toContain('"d":');
  });

  it("what is asked wrongly is told in OAuth's words, and another site's page is refused", async () => {
    expect(await refusal({ grant_type: "implicit" })).toEqual([400, "unsupported_grant_type"]);
    expect(await refusal({ grant_type: "password" })).toEqual([400, "invalid_request"]);
    expect(await refusal({ grant_type: "password", username: "alice", password, scope: "every thing" })).toEqual([
      400,
      "invalid_scope",
    ]);
    const evil = await post(
      "/oauth/token",
      { grant_type: "password", username: "alice", password },
      {
        origin: "https://evil.example",
      },
    );
    expect(evil.status).toBe(403);
    const json = await fetch(`${berthd.url}/oauth/token`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    expect([json.status, ((await json.json()) as { error: string }).error]).toEqual([400, "invalid_request"]);
  });
});
