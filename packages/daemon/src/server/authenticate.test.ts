import { expect, test } from "vitest";
import type { Caller } from "../identity/authorize.ts";
import { makeToken } from "../identity/tokens.ts";
import { authenticator, type Callers } from "./authenticate.ts";
import { sessionCookie } from "./session-cookie.ts";

const caller: Caller = {
  id: "t-1",
  name: "ci",
  session: null,
  admin: true,
  roles: new Map(),
  project: null,
  scopes: null,
  expiresAt: null,
};

const cookie = sessionCookie(false);
const nobody = async () => undefined;
/** An authenticator that finds tokens so. */
const ofTokens = (ofToken: Callers["ofToken"], ...more: [number, (() => number)?]) => {
  const { authenticate, forget } = authenticator(
    { ofToken, ofSession: nobody, ofAccessToken: nobody },
    cookie,
    ...more,
  );
  return { authenticate: (authorization: string | undefined) => authenticate({ authorization }), forget };
};

test("a token is asked for once in a while, and a revoked one is refused after that", async () => {
  let now = 0;
  let asked = 0;
  let known = true;
  const find = async () => {
    asked += 1;
    return known ? caller : undefined;
  };
  const { authenticate, forget } = ofTokens(find, 5000, () => now);
  const header = `Bearer ${makeToken()}`;
  expect(await authenticate(header)).toEqual(caller);
  known = false;
  now = 4999;
  expect(await authenticate(header)).toEqual(caller);
  expect(asked).toBe(1);
  now = 5000;
  await expect(authenticate(header)).rejects.toMatchObject({ code: "unauthenticated" });
  // An unknown token is not remembered as such: it works as soon as it is made.
  known = true;
  expect(await authenticate(header)).toEqual(caller);
  known = false;
  forget();
  await expect(authenticate(header)).rejects.toMatchObject({ code: "unauthenticated" });
});

test("what was found before tokens changed is not remembered afterwards", async () => {
  const found = Promise.withResolvers<Caller>();
  const answers: (Promise<Caller> | undefined)[] = [found.promise, undefined];
  const { authenticate, forget } = ofTokens(async () => answers.shift(), 5000);
  const header = `Bearer ${makeToken()}`;
  const asking = authenticate(header);
  forget();
  found.resolve(caller);
  expect(await asking).toBe(caller);
  await expect(authenticate(header)).rejects.toMatchObject({ code: "unauthenticated" });
});

test("a token that expires is not remembered beyond that", async () => {
  let now = 0;
  const answers = [{ ...caller, expiresAt: 1000 }, undefined];
  const { authenticate } = ofTokens(
    async () => answers.shift(),
    5000,
    () => now,
  );
  const header = `Bearer ${makeToken()}`;
  await authenticate(header);
  now = 999;
  await authenticate(header);
  now = 1000;
  await expect(authenticate(header)).rejects.toMatchObject({ code: "unauthenticated" });
});

test("what is no token is refused without asking, and callers are not mixed up", async () => {
  const tokens = [makeToken(), makeToken()];
  const seen: string[] = [];
  const { authenticate } = ofTokens(async (hash) => {
    seen.push(hash);
    return { ...caller, id: `t-${seen.length}` };
  }, 5000);
  for (const header of [
    undefined,
    "",
    "Bearer",
    `Basic ${tokens[0]}`,
    `Bearer ${tokens[0]}x`,
    `Bearer ${tokens[0]?.slice(0, -1)}`,
  ]) {
    expect(() => authenticate(header)).toThrow(expect.objectContaining({ code: "unauthenticated" }));
  }
  expect(seen).toEqual([]);
  expect((await authenticate(`Bearer ${tokens[0]}`)).id).toBe("t-1");
  expect((await authenticate(`bearer ${tokens[1]}`)).id).toBe("t-2");
  expect((await authenticate(`Bearer ${tokens[0]}`)).id).toBe("t-1");
});

test("a session's cookie is one among others, of its own name; a token goes before it", async () => {
  const secret = makeToken("session");
  const ofSession = async () => ({ ...caller, name: "alice", session: "x" });
  const { authenticate } = authenticator(
    { ofToken: async () => caller, ofSession, ofAccessToken: nobody },
    cookie,
    5000,
  );
  expect(await authenticate({ cookie: `a=b; berth-session=${secret}; c=d` })).toMatchObject({ name: "alice" });
  const both = { cookie: `berth-session=${secret}`, authorization: `Bearer ${makeToken()}` };
  expect(await authenticate(both)).toMatchObject({ name: "ci" });
  for (const text of [
    `xberth-session=${secret}`,
    `berth-session=${secret}x`,
    `__Host-berth=${secret}`,
    "berth-session=",
  ])
    expect(() => authenticate({ cookie: text })).toThrow(/neither/);
  const secure = authenticator(
    { ofToken: nobody, ofSession, ofAccessToken: nobody },
    sessionCookie(true),
    5000,
  ).authenticate;
  expect(await secure({ cookie: `__Host-berth=${secret}` })).toMatchObject({ name: "alice" });
  expect(() => secure({ cookie: `berth-session=${secret}` })).toThrow(/neither/);
});
