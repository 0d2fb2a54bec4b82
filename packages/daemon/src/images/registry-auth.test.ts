import { describe, expect, test } from "vitest";
import { parseRegistryAuth } from "./registry-auth.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");
const parse = (auths: Record<string, unknown>) => parseRegistryAuth(JSON.stringify({ auths }));

describe("parseRegistryAuth", () => {
  test("knows each registry by the name that references have, and no other", () => {
    const find = parse({
      "https://index.docker.io/v1/": { auth: base64("ada:s:e:c") },
      "ghcr.io": { auth: base64("bob:token"), email: "" },
      "http://Registry.lan:5000/v2/": { username: "carl", password: "pass" },
    });
    expect(find("docker.io")).toEqual({ username: "ada", password: "s:e:c" });
    expect(find("ghcr.io")).toEqual({ username: "bob", password: "token" });
    expect(find("registry.LAN:5000")).toEqual({ username: "carl", password: "pass" });
    for (const other of ["registry.lan", "quay.io", "constructor"]) expect(find(other)).toBeUndefined();
    expect(parseRegistryAuth("{}")("docker.io")).toBeUndefined();
  });

  test.each<[string, string, RegExp]>([
    ["no JSON", `{"auths": {"ghcr.io": {"auth": "c2VjcmV0"`, /^it is not JSON$/],
    ["another shape", `{"auths": {"ghcr.io": "c2VjcmV0"}}`, /^auths\.ghcr\.io is not as docker/],
    ["a credential helper's entry", `{"auths": {"ghcr.io": {}}, "credsStore": "c2VjcmV0"}`, /^ghcr\.io has no user/],
    ["what is no user:password", `{"auths": {"ghcr.io": {"auth": "c2VjcmV0"}}}`, /^ghcr\.io has no user/],
    [
      "a repository",
      `{"auths": {"ghcr.io/team": {"auth": "${base64("u:c2VjcmV0")}"}}}`,
      /^ghcr\.io\/team is not a reg/,
    ],
  ])("%s is refused without a word of what is secret", (_what, text, words) => {
    expect(() => parseRegistryAuth(text)).toThrow(words);
    expect(() => parseRegistryAuth(text)).not.toThrow(/secret|c2Vj/);
  });
});
