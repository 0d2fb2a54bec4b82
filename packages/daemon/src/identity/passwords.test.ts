import { expect, test } from "vitest";
import { hashPassword, verifyPassword } from "./passwords.ts";

test("a password verifies against what is kept of it, and no other does", async () => {
  const kept = await hashPassword("correct horse battery");
  expect(kept).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
  expect(await hashPassword("correct horse battery")).not.toBe(kept);
  expect(await verifyPassword("correct horse battery", kept)).toBe(true);
  expect(await verifyPassword("correct horse batterz", kept)).toBe(false);
  expect(await verifyPassword("correct horse battery", null)).toBe(false);
  await expect(verifyPassword("x", "md5")).rejects.toThrow("user.password");
});

test("the same letters are the same password however they were typed", async () => {
  const kept = await hashPassword("caf\u00e9 au lait matin");
  expect(await verifyPassword("cafe\u0301 au lait matin", kept)).toBe(true);
});

test("too many at once are refused instead of piling up, and those in the queue are answered", async () => {
  const kept = await hashPassword("correct horse battery");
  const asked = Array.from({ length: 80 }, () => verifyPassword("correct horse battery", kept));
  const answers = await Promise.allSettled(asked);
  const refused = answers.filter(({ status }) => status === "rejected");
  expect(refused.length).toBe(14);
  for (const one of refused) expect(one).toMatchObject({ reason: { code: "rate_limited" } });
  expect(answers.filter((one) => one.status === "fulfilled" && one.value).length).toBe(66);
  expect(await verifyPassword("correct horse battery", kept)).toBe(true);
}, 60_000);
