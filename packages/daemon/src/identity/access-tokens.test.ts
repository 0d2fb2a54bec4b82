import { type CryptoKey, exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import { expect, test } from "vitest";
import { AccessTokens, accessTokenMs } from "./access-tokens.ts";

const hourMs = 3_600_000;

/** Two daemons of one store, and the clock of both. */
function twoDaemons() {
  const keys = new Map<string, { id: string; publicKey: string }>();
  const clock = { now: Date.parse("2026-12-01T00:00:00Z") };
  const store = {
    save: async (key: { id: string; publicKey: string }) => void keys.set(key.id, key),
    list: async () => [...keys.values()],
  };
  const daemon = () => new AccessTokens("berth/one", store, () => clock.now);
  return { one: daemon(), other: daemon(), keys, clock, store };
}

const claims = { subject: "u-1", grant: "g-1", scopes: ["instance:read", "event"] };

test("an access token says whose it is, to every berthd of the store, until it expires", async () => {
  const { one, other, clock } = twoDaemons();
  const token = await one.issue(claims);
  expect(await other.verify(token)).toEqual({ ...claims, expiresAt: clock.now + accessTokenMs });
  clock.now += accessTokenMs - 1000;
  expect(await other.verify(token)).toMatchObject(claims);
  clock.now += 1000;
  expect(await other.verify(token)).toBeUndefined();
});

test("a key signs for a day, and the next one is another; what the first signed is still good", async () => {
  const { one, other, clock, keys } = twoDaemons();
  await one.issue(claims);
  clock.now += 24 * hourMs - 1000;
  const late = await one.issue(claims);
  expect(keys.size).toBe(1);
  clock.now += 1000;
  const next = await one.issue(claims);
  expect(keys.size).toBe(2);
  expect(await other.verify(late)).toMatchObject(claims);
  expect(await other.verify(next)).toMatchObject(claims);
  for (const { publicKey } of keys.values()) expect(JSON.parse(publicKey)).not.toHaveProperty("d");
});

/** A token that says what one of ours would, signed by somebody else under the name of a key. */
const forge = (privateKey: CryptoKey, kid: string, now: number, typ = "at+jwt") =>
  new SignJWT({ grant: null, scope: null })
    .setProtectedHeader({ alg: "EdDSA", kid, typ })
    .setIssuer("berth/one")
    .setAudience("berth/one")
    .setSubject("u-1")
    .setExpirationTime(now / 1000 + 60)
    .sign(privateKey);

test("nothing else is one: changed, signed by others or by nobody, of another issuer or kind", async () => {
  const { one, store, keys, clock } = twoDaemons();
  const token = await one.issue(claims);
  const [header = "", payload = "", signature = ""] = token.split(".");
  const raised = Buffer.from(
    JSON.stringify({ ...JSON.parse(Buffer.from(payload, "base64url").toString()), sub: "u-2" }),
  );
  const [kid = ""] = keys.keys();
  const { privateKey } = await generateKeyPair("EdDSA");
  const unsigned = new UnsecuredJWT({ grant: null, scope: null })
    .setIssuer("berth/one")
    .setAudience("berth/one")
    .setSubject("u-1");
  const elsewhere = new AccessTokens("berth/two", store, () => clock.now);
  for (const wrong of [
    `${header}.${raised.toString("base64url")}.${signature}`,
    await forge(privateKey, kid, clock.now),
    await forge(privateKey, kid, clock.now, "JWT"),
    unsigned.setExpirationTime(clock.now / 1000 + 60).encode(),
    await elsewhere.issue(claims),
    token.slice(0, -8),
    "",
  ])
    expect(await one.verify(wrong)).toBeUndefined();
  expect(await one.verify(token)).toMatchObject(claims);
});

test("negative control: a forged one is let in once its key is among ours, so its signature alone keeps it out", async () => {
  const { one, keys, clock } = twoDaemons();
  const { privateKey, publicKey } = await generateKeyPair("EdDSA");
  const forged = await forge(privateKey, "theirs", clock.now);
  expect(await one.verify(forged)).toBeUndefined();
  keys.set("theirs", { id: "theirs", publicKey: JSON.stringify(await exportJWK(publicKey)) });
  expect(await one.verify(forged)).toMatchObject({ subject: "u-1", scopes: null });
  expect(await one.verify(await forge(privateKey, "theirs", clock.now, "JWT"))).toBeUndefined();
});

test("many who ask at once get one key, and a store that does not answer says nothing of a token", async () => {
  const { one, other, keys, store } = twoDaemons();
  const [token = ""] = await Promise.all([one.issue(claims), one.issue(claims), one.issue(claims)]);
  expect(keys.size).toBe(1);
  const { list } = store;
  store.list = () => Promise.reject(new Error("the store is gone"));
  await expect(other.verify(token)).rejects.toThrow("the store is gone");
  store.list = list;
  expect(await other.verify(token)).toMatchObject(claims);
});
