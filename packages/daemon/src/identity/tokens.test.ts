import fc from "fast-check";
import { expect, test } from "vitest";
import { hashToken, looksLikeToken, makeToken, verifyToken } from "./tokens.ts";

test("a made token looks like one, verifies against its hash and is never made twice", () => {
  const tokens = Array.from({ length: 200 }, makeToken);
  expect(new Set(tokens).size).toBe(200);
  for (const token of tokens) {
    expect(looksLikeToken(token)).toBe(true);
    expect(verifyToken(token, hashToken(token))).toBe(true);
    expect(hashToken(token)).not.toContain(token.slice(6, 20));
  }
});

test("a token with one character changed is refused by its checksum, and by its hash", () => {
  const token = makeToken();
  fc.assert(
    fc.property(fc.integer({ min: 6, max: token.length - 1 }), fc.constantFrom(..."0aZ9"), (at, character) => {
      fc.pre(token[at] !== character);
      const changed = token.slice(0, at) + character + token.slice(at + 1);
      expect(looksLikeToken(changed)).toBe(false);
      expect(verifyToken(changed, hashToken(token))).toBe(false);
    }),
  );
});

test("anything else is no token", () => {
  for (const text of ["", "berth_", "bearer", `berth_${"a".repeat(38)}`, `${makeToken()} `, makeToken().slice(1)]) {
    expect(looksLikeToken(text)).toBe(false);
  }
  expect(verifyToken(makeToken(), "")).toBe(false);
  expect(verifyToken(makeToken(), "abcd")).toBe(false);
});

test("a secret of one kind is none of another", () => {
  for (const kind of ["token", "session", "code"] as const) {
    const secret = makeToken(kind);
    expect(looksLikeToken(secret, kind)).toBe(true);
    for (const other of ["token", "session", "code"] as const)
      if (other !== kind) expect(looksLikeToken(secret, other)).toBe(false);
  }
});
