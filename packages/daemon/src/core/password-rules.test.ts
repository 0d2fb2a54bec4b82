import { expect, test } from "vitest";
import { whyWeak } from "./password-rules.ts";

test("what anybody would try is refused, with the reason", () => {
  const weak: Record<string, RegExp> = {
    short: /less than 12/,
    ααααααααααα: /less than 12/,
    aaaaaaaaaaaaaaaa: /different/,
    PasswordPassword: /first/,
    abcdefghijklmn: /first/,
    "alice-alice-1": /name/,
  };
  for (const [password, reason] of Object.entries(weak)) expect(whyWeak(password, "alice")).toMatch(reason);
});

test("length is enough: no kinds of characters are asked for", () => {
  for (const password of ["correct horse battery", "nur kleine woerter", "ein öäü wort und 日本語", "x7#Qp!2vLm9@"])
    expect(whyWeak(password, "alice")).toBeUndefined();
});
