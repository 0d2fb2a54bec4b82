import { createHash } from "node:crypto";
import { errorCatalogue, routes } from "@berth/api";
import { afterAll, expect, test } from "vitest";
import { testServer } from "./testing/test-server.ts";

const { app } = testServer();
afterAll(() => app.close());
const get = (url: string) => app.inject({ url, headers: { host: "localhost" } });

for (const url of ["/docs", "/docs/errors"]) {
  test(`${url} needs no token, loads nothing and runs nothing`, async () => {
    const answer = await get(url);
    expect(answer.statusCode).toBe(200);
    expect(answer.headers["content-type"]).toBe("text/html; charset=utf-8");
    expect(answer.headers["content-security-policy"]).toMatch(/^default-src 'none'; style-src 'sha256-[^']+'; /);
    expect(answer.body).not.toMatch(/<script|<link|<img|<iframe|<form|\ssrc=|\son\w+=|style=|url\(/);
    // Links stay here.
    for (const [, target = ""] of answer.body.matchAll(/href="([^"]*)"/g)) expect(target).toMatch(/^[#/]/);
    // Each link within the page leads somewhere.
    for (const [, id = ""] of answer.body.matchAll(/href="#([^"]*)"/g)) expect(answer.body).toContain(`id="${id}"`);
  });
}

test("the style is the one that the policy allows", async () => {
  const answer = await get("/docs");
  const style = /<style>([\s\S]*?)<\/style>/.exec(answer.body)?.[1] ?? "";
  const digest = createHash("sha256").update(style).digest("base64");
  expect(answer.headers["content-security-policy"]).toContain(`'sha256-${digest}'`);
});

test("the reference has every request with an example, and every error a section", async () => {
  const reference = await get("/docs");
  for (const name of Object.keys(routes)) expect(reference.body).toContain(`<h3 id="${name}">`);
  expect(reference.body.match(/<pre><code>(curl|websocat) /g)).toHaveLength(Object.keys(routes).length);
  const errors = await get("/docs/errors");
  for (const code of Object.keys(errorCatalogue)) expect(errors.body).toContain(`id="${code}"`);
});

test("the OpenAPI document is served, the root leads to the reference, and health is told without a token", async () => {
  expect((await get("/openapi.json")).json().openapi).toBe("3.1.0");
  const root = await get("/");
  expect([root.statusCode, root.headers.location]).toEqual([302, "/docs"]);
  expect((await get("/healthz")).body).toBe("ok\n");
});
