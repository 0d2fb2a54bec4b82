import { expect, test } from "vitest";
import type { Caller } from "../identity/authorize.ts";
import { makeToken } from "../identity/tokens.ts";
import { authenticator } from "./authenticate.ts";

const caller: Caller = {
  tokenId: "t-1",
  name: "ci",
  admin: true,
  roles: new Map(),
  project: null,
  scopes: null,
  expiresAt: null,
};

test("a token is asked for once in a while, and a revoked one is refused after that", async () => {
  let now = 0;
  let asked = 0;
  let known = true;
  const find = async () => {
    asked += 1;
    return known ? caller : undefined;
  };
  const { authenticate, forget } = authenticator(find, 5000, () => now);
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
  const { authenticate, forget } = authenticator(async () => answers.shift(), 5000);
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
  const { authenticate } = authenticator(
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
  const { authenticate } = authenticator(async (hash) => {
    seen.push(hash);
    return { ...caller, tokenId: `t-${seen.length}` };
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
  expect((await authenticate(`Bearer ${tokens[0]}`)).tokenId).toBe("t-1");
  expect((await authenticate(`bearer ${tokens[1]}`)).tokenId).toBe("t-2");
  expect((await authenticate(`Bearer ${tokens[0]}`)).tokenId).toBe("t-1");
});
