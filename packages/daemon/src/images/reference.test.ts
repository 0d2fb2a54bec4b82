import { BerthError } from "@berth/api";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatReference, parseReference } from "./reference.ts";

const digest = `sha256:${"ab".repeat(32)}`;

describe("parseReference", () => {
  test.each([
    ["nginx", "docker.io/library/nginx:latest"],
    ["nginx:1.27", "docker.io/library/nginx:1.27"],
    ["me/app", "docker.io/me/app:latest"],
    ["docker.io/nginx", "docker.io/library/nginx:latest"],
    ["index.docker.io/nginx", "docker.io/library/nginx:latest"],
    ["localhost/web", "localhost/web:latest"],
    ["localhost:5000/web", "localhost:5000/web:latest"],
    ["registry:5000/a/b/c:v1", "registry:5000/a/b/c:v1"],
    ["ghcr.io/owner/app", "ghcr.io/owner/app:latest"],
    ["127.0.0.1:5000/app:x", "127.0.0.1:5000/app:x"],
    ["[::1]:5000/app", "[::1]:5000/app:latest"],
    ["Upper/app", "Upper/app:latest"],
    [`nginx@${digest}`, `docker.io/library/nginx@${digest}`],
    [`nginx:1.27@${digest}`, `docker.io/library/nginx:1.27@${digest}`],
    ["a__b/c-d.e--f", "docker.io/a__b/c-d.e--f:latest"],
  ])("%s is %s", (text, canonical) => {
    expect(formatReference(parseReference(text))).toBe(canonical);
  });

  test.each([
    "",
    "/",
    "Nginx",
    "nginx:",
    "nginx:-x",
    "nginx:a/b",
    "nginx@sha256:abc",
    `nginx@${digest}@${digest}`,
    "a//b",
    "a/-b",
    "a_/b",
    "../b",
    "https://ghcr.io/a",
    "ghcr.io/",
    "host:99999/a",
    "host:0/a",
    "a b",
    "a\n",
    "ab".repeat(32),
    "a".repeat(256),
    `nginx:${"t".repeat(129)}`,
  ])("%j is refused", (text) => {
    expect(() => parseReference(text)).toThrow(BerthError);
  });

  const label = fc.stringMatching(/^[a-z0-9]{1,8}(-[a-z0-9]{1,4})?$/);
  const component = fc.stringMatching(/^[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4})?$/);
  const canonical = fc.record({
    registry: fc
      .tuple(label, label, fc.option(fc.integer({ min: 1, max: 65_535 })))
      .map(([a, b, port]) => `${a}.${b}${port ? `:${port}` : ""}`),
    repository: fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/")),
    tag: fc.option(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/)),
    digest: fc.option(fc.stringMatching(/^[0-9a-f]{64}$/).map((hex) => `sha256:${hex}`)),
  });

  test("what is written canonically is read back", () => {
    fc.assert(
      fc.property(canonical, (reference) => {
        fc.pre(reference.tag !== null || reference.digest !== null);
        fc.pre(reference.registry !== "docker.io" && reference.registry !== "index.docker.io");
        expect(parseReference(formatReference(reference))).toEqual(reference);
      }),
    );
  });

  test("any text is refused or stays what it is", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-zA-Z0-9.:/@_[\]-]{0,40}$/)), (text) => {
        let once: string;
        try {
          once = formatReference(parseReference(text));
        } catch (error) {
          expect(error).toMatchObject({ code: "invalid_reference" });
          return;
        }
        expect(formatReference(parseReference(once))).toBe(once);
      }),
    );
  });
});
