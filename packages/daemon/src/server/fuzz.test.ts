import { BuildImage, CreateArchive, CreateInstance, errorCatalogue, PullImage, type Route, routes } from "@berth/api";
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import fc from "fast-check";
import type { InjectOptions } from "fastify";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { z } from "zod";
import { openApiDocument } from "./openapi.ts";
import { testServer } from "./testing/test-server.ts";
import { streamTypeOf } from "./validate.ts";

let server: ReturnType<typeof testServer>;
beforeAll(() => {
  server = testServer();
});
afterAll(() => server.app.close());

const ajv = new Ajv2020({ strict: false });
formats.default(ajv);
ajv.addSchema(openApiDocument(routes, "1") as object, "berth");

/** Sends a request; whatever it is, the answer is never a fault of the server, and every refusal is a problem of the catalogue. */
async function sane(request: InjectOptions) {
  const answer = await server.send(request);
  expect(answer.statusCode).toBeLessThan(500);
  if (answer.statusCode >= 400) {
    expect(answer.headers["content-type"]).toBe("application/problem+json; charset=utf-8");
    if (request.method !== "HEAD") expect(Object.keys(errorCatalogue)).toContain(answer.json().code);
  }
  return answer;
}

const runs = { numRuns: Number(process.env.FUZZ_RUNS ?? 300) };

/** Text that is not only letters: escapes, separators, NUL, unpaired surrogates, long ones. */
const nastyText = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.constantFrom(
    "",
    "..",
    "../..",
    "a/b",
    "%00",
    "%2e%2e%2f",
    "\0",
    "\ud800",
    "'; DROP TABLE instance; --",
    "$(id)",
    "x".repeat(400),
  ),
);

/** A value near a good one: each key sometimes left out, sometimes replaced by anything, sometimes joined by another. */
const near = (good: Record<string, fc.Arbitrary<unknown>>) =>
  fc
    .tuple(
      fc.record(
        Object.fromEntries(
          Object.entries(good).map(([key, value]) => [
            key,
            fc.oneof({ weight: 40, arbitrary: value }, { weight: 1, arbitrary: fc.jsonValue() }),
          ]),
        ),
        { requiredKeys: [] },
      ),
      fc.option(fc.dictionary(nastyText, fc.jsonValue(), { maxKeys: 1 }), { freq: 2, nil: {} }),
    )
    .map(([known, more]) => ({ ...known, ...more }));

const argument = fc.string({ maxLength: 20 });
const bodies: [string, z.ZodType, fc.Arbitrary<unknown>][] = [
  [
    "/api/v1/instances",
    CreateInstance,
    near({
      image: fc.string({ minLength: 1, maxLength: 30 }),
      name: fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,30}$/),
      labels: fc.dictionary(fc.stringMatching(/^[A-Za-z0-9]{1,4}[./_-]?$/), argument, { maxKeys: 2 }),
      cpus: fc.integer({ min: 1, max: 520 }),
      memoryMib: fc.integer({ min: 60, max: 20_000 }),
      diskMib: fc.integer({ min: 10, max: 20_000 }),
      ports: fc.array(
        near({
          guestPort: fc.integer({ min: 1, max: 66_000 }),
          hostPort: fc.nat(66_000),
          protocol: fc.constantFrom("tcp", "udp"),
          hostAddress: fc.oneof({ weight: 5, arbitrary: fc.ipV4() }, { weight: 5, arbitrary: fc.ipV6() }, argument),
        }),
        { maxLength: 3 },
      ),
      env: fc.dictionary(fc.string({ minLength: 1, maxLength: 5 }), nastyText, { maxKeys: 1 }),
      entrypoint: fc.array(nastyText, { maxLength: 1 }),
      command: fc.array(argument, { maxLength: 3 }),
      tty: fc.boolean(),
      stopTimeoutMs: fc.integer({ min: -1, max: 3_600_001 }),
      start: fc.boolean(),
    }),
  ],
  [
    "/api/v1/archives",
    CreateArchive,
    near({
      name: fc.oneof({ weight: 9, arbitrary: fc.stringMatching(/^[a-z.]{1,9}$/) }, { weight: 1, arbitrary: nastyText }),
      sizeBytes: fc.integer({ min: 0, max: 20 }),
      beginning: fc.stringMatching(/^[0-9a-f]{64}$/),
    }),
  ],
  ["/api/v1/images/pull", PullImage, near({ reference: nastyText, refresh: fc.boolean() })],
  [
    "/api/v1/images/build",
    BuildImage,
    near({
      reference: argument,
      source: fc.oneof(
        near({ type: fc.constant("directory"), path: nastyText.map((text) => `/${text}`) }),
        near({ type: fc.constant("git"), url: nastyText, ref: argument, subdirectory: argument }),
      ),
      dockerfile: argument,
      buildArgs: fc.dictionary(fc.stringMatching(/^[A-Za-z_0-9]{1,5}$/), argument, { maxKeys: 2 }),
    }),
  ],
];

for (const [url, schema, arbitrary] of bodies) {
  test(`a body is accepted exactly when the published schema accepts it: ${url}`, async () => {
    const pointer = `berth#/paths/${encodeURIComponent(url.replaceAll("/", "~1"))}/post/requestBody/content/application~1json/schema`;
    const published = ajv.getSchema(pointer);
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(fc.oneof({ weight: 5, arbitrary }, { weight: 1, arbitrary: fc.jsonValue() }), async (body) => {
        const payload = JSON.stringify(body);
        const answer = await sane({ method: "POST", url, payload, headers: { "content-type": "application/json" } });
        const sent: unknown = JSON.parse(payload);
        const isRefused = answer.statusCode === 400;
        expect(isRefused).toBe(!schema.safeParse(sent).success);
        expect(isRefused).toBe(!published?.(sent));
        if (!isRefused) accepted += 1;
      }),
      runs,
    );
    // Both answers were really met.
    expect(accepted).toBeGreaterThan(10);
    expect(accepted).toBeLessThan(runs.numRuns);
  }, 60_000);
}

test("any name in any path", async () => {
  const routesWithNames = Object.values<Route>(routes).filter(
    ({ path, kind }) => path.includes(":") && kind !== "websocket",
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...routesWithNames), nastyText, fc.boolean(), async (route, name, encode) => {
      const safe =
        encode || !/^[\x21-\x7e]*$/.test(name) ? encodeURIComponent(name.toWellFormed()) : name.replace(/[?#]/g, "");
      const type = streamTypeOf(route);
      await sane({
        method: route.method,
        url: `${route.path.replace(/:\w+/, safe)}?path=/x`,
        ...(type ? { headers: { "content-type": type }, payload: Buffer.alloc(512) } : {}),
      });
    }),
    runs,
  );
});

test("any query on any route", async () => {
  const known = [...new Set(Object.values<Route>(routes).flatMap(({ query }) => Object.keys(query?.shape ?? {})))];
  const value = fc.oneof(
    nastyText,
    fc.constantFrom("true", "false", "0", "1", "-1", "1e3", "0x10", "0.5", "999999999999999999", " 1"),
  );
  const queryRoutes = Object.values<Route>(routes).filter(({ kind, method }) => kind === "json" && method === "GET");
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...queryRoutes),
      fc.array(fc.tuple(fc.oneof(fc.constantFrom(...known), nastyText), value), { maxLength: 3 }),
      async (route, pairs) => {
        const usable = pairs.map(([key, text]): [string, string] => [key.toWellFormed(), text.toWellFormed()]);
        const query = new URLSearchParams(usable);
        const url = route.path
          .replace(":instance", "web")
          .replace(":operation", server.operation.id)
          .replace(/:\w+/, "none");
        const answer = await sane({ url: `${url}?${query}` });
        const names = Object.keys(route.query?.shape ?? {});
        // Unknown keys never pass unseen.
        if (usable.some(([key]) => !names.includes(key))) expect(answer.statusCode).toBe(400);
      },
    ),
    runs,
  );
});

test("any headers", async () => {
  // What HTTP lets through: visible characters, spaces and the upper half of Latin-1.
  const value = fc.oneof(
    fc.stringMatching(/^[\x20-\x7e\x80-\xff]{0,60}$/),
    fc.constantFrom('"1"', 'W/"1"', "*", '"1", "2"', "Bearer berth_", "bytes=0-1"),
  );
  const name = fc.constantFrom(
    "authorization",
    "if-match",
    "idempotency-key",
    "last-event-id",
    "x-request-id",
    "accept",
    "origin",
    "range",
    "cookie",
    "host",
    "expect",
    "x-forwarded-for",
  );
  await fc.assert(
    fc.asyncProperty(fc.dictionary(name, value, { maxKeys: 4 }), async (headers) => {
      await sane({ method: "POST", url: "/api/v1/instances/web/restart", headers });
      await sane({ url: "/api/v1/instances/web", headers });
    }),
    runs,
  );
});

test("any bytes as JSON", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 60 }),
      fc.constantFrom("", "{", '{"image":"'),
      async (bytes, prefix) => {
        const payload = Buffer.concat([Buffer.from(prefix), bytes]);
        await sane({
          method: "POST",
          url: "/api/v1/instances",
          payload,
          headers: { "content-type": "application/json" },
        });
      },
    ),
    runs,
  );
});
