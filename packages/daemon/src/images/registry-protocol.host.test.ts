import { readdir } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { writeTar } from "../core/testing/tar-writer.ts";
import { createBlobCache } from "./blobs.ts";
import { createOutbound, type Outbound } from "./outbound.ts";
import { parseReference } from "./reference.ts";
import { createRegistry, parseChallenge, type RegistryOptions } from "./registry.ts";
import { digestOf, type FakeRegistry, startFakeRegistry } from "./testing/fake-registry.ts";

let server: FakeRegistry;
beforeEach(async () => {
  server = await startFakeRegistry();
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
});

const { signal } = new AbortController();
const client = (options: Partial<RegistryOptions> = {}) =>
  createRegistry({
    outbound: createOutbound({ allowHosts: [server.host] }),
    architecture: "amd64",
    attempts: 3,
    pauseMs: 1,
    ...options,
  });
const reference = (name: string) => parseReference(`${server.host}/${name}`);

/** Asks for a token as Docker Hub does, and gives one to anybody, or to one user. */
function demandToken(user?: string) {
  const asked: string[] = [];
  server.intercept = (request: IncomingMessage, response: ServerResponse) => {
    if (request.url?.startsWith("/token")) {
      asked.push(`${request.url} ${request.headers.authorization ?? "nobody"}`);
      const basic = `Basic ${Buffer.from(user ?? "").toString("base64")}`;
      if (user !== undefined && request.headers.authorization !== basic) response.writeHead(401).end();
      else response.end(JSON.stringify({ token: "t0ken" }));
      return true;
    }
    if (request.headers.authorization === "Bearer t0ken") return false;
    response.writeHead(401, { "www-authenticate": `Bearer realm="http://${server.host}/token",service="fake"` }).end();
    return true;
  };
  return asked;
}

test("fetches an anonymous token once, for the repository", async () => {
  const digest = server.addImage("team/app", "latest", [writeTar([])]);
  const asked = demandToken();
  const registry = client();
  expect((await registry.manifest(reference("team/app"), signal)).digest).toBe(digest);
  expect((await registry.manifest(reference("team/app"), signal)).digest).toBe(digest);
  expect(asked).toEqual(["/token?service=fake&scope=repository%3Ateam%2Fapp%3Apull nobody"]);
});

test("gives credentials to the token service, and says when they do not help", async () => {
  server.addImage("team/app", "latest", [writeTar([])]);
  demandToken("me:secret");
  const credentials = { username: "me", password: "secret" };
  await client({ credentials: () => credentials }).manifest(reference("team/app"), signal);
  await expect(client().manifest(reference("team/app"), signal)).rejects.toMatchObject({ code: "image_not_found" });
});

test("tries again what may pass, and not what will not", async () => {
  server.addImage("app", "latest", [writeTar([])]);
  let failures = 0;
  server.intercept = (request, response) => {
    if (!request.url?.includes("manifests") || failures === 2) return false;
    failures += 1;
    response.writeHead(503).end();
    return true;
  };
  await client().manifest(reference("app"), signal);
  expect(failures).toBe(2);
  server.intercept = (_request, response) => {
    response.writeHead(418, { "content-type": "application/json" });
    response.end(JSON.stringify({ errors: [{ message: "I am\u001b[31m a teapot" }] }));
    return true;
  };
  server.requests.length = 0;
  const failure = client().manifest(reference("app"), signal);
  await expect(failure).rejects.toMatchObject({ code: "registry_error" });
  await expect(failure).rejects.toThrow(/418 .*I am \[31m a teapot/);
  expect(server.requests.filter((request) => request.includes("manifests"))).toHaveLength(1);
});

test("who leaves while a request waits to be made again has left at once", async () => {
  const leaving = new AbortController();
  const unavailable = async (url: URL) => ({ status: 503, headers: {}, body: Readable.from([]), url });
  const outbound = { ...createOutbound({ allowHosts: [] }), request: unavailable } as unknown as Outbound;
  const asked = client({ outbound, pauseMs: 2 ** 30 }).manifest(reference("app"), leaving.signal);
  // All that it could do without waiting is done.
  for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  leaving.abort(new Error("left"));
  await expect(asked).rejects.toThrow("left");
});

test("a manifest without end is not read to its end", async () => {
  server.intercept = (request, response) => {
    if (!request.url?.includes("manifests")) return false;
    response.writeHead(200);
    const more = () => {
      while (response.write("x".repeat(65_536)));
      response.once("drain", more);
    };
    more();
    return true;
  };
  await expect(client().manifest(reference("app"), signal)).rejects.toMatchObject({ code: "unsupported_image" });
});

test("what could be read as an index and as a manifest is neither", async () => {
  server.manifests.set("app/latest", Buffer.from(JSON.stringify({ manifests: [], config: {}, layers: [] })));
  await expect(client().manifest(reference("app"), signal)).rejects.toMatchObject({ code: "unsupported_image" });
});

test("digests protect: without the check the lie is believed", async () => {
  const digest = server.addImage("app", "latest", [writeTar([])]);
  server.manifests.set(`app/${digest}`, Buffer.from(`${server.manifests.get(`app/${digest}`)} `));
  await expect(client().manifest(reference(`app@${digest}`), signal)).rejects.toMatchObject({
    code: "digest_mismatch",
  });
  await client({ unverified: true }).manifest(reference(`app@${digest}`), signal);

  const promised = digestOf("true");
  server.blobs.set(promised, Buffer.from("lies"));
  const folder = await scratchDirectory("blb");
  const fetchWith = async (options: { unverified?: boolean }) =>
    await createBlobCache(`${folder}/blobs`, `${folder}/tmp`, { ...options, pauseMs: 1 }).fetch(
      { digest: promised, size: 4 },
      client().blob(reference("app"), { digest: promised, size: 4 }),
      { signal },
    );
  await expect(fetchWith({})).rejects.toMatchObject({ code: "digest_mismatch" });
  await fetchWith({ unverified: true });
});

test.each([
  ["is announced to be", { "content-length": 1_000_000 }, 0],
  ["turns out to be", {}, 20],
])("a blob that %s longer than promised ends at once, and nothing is left of it", async (_how, headers, sent) => {
  const blob = { digest: digestOf("long"), size: 10 };
  const left = Promise.withResolvers<void>();
  // Whoever waits for its end waits for ever.
  server.intercept = (_request, response) => {
    response.once("close", () => left.resolve());
    response.writeHead(200, headers).flushHeaders();
    if (sent > 0) response.write("x".repeat(sent));
    return true;
  };
  const folder = await scratchDirectory("blb");
  const cache = createBlobCache(`${folder}/blobs`, `${folder}/tmp`);
  const fetched = cache.fetch(blob, client().blob(reference("app"), blob), { signal });
  await expect(fetched).rejects.toMatchObject({
    code: "digest_mismatch",
    message: expect.stringContaining("10 bytes"),
  });
  await left.promise;
  server.intercept = () => false;
  expect(await readdir(`${folder}/tmp`)).toEqual([]);
});

test("challenges are read with their quotes", () => {
  const { scheme, parameters } = parseChallenge('Bearer realm="https://a/t?x=1,2", service=plain,scope="a:\\"b\\""');
  expect([scheme, ...parameters]).toEqual([
    "bearer",
    ["realm", "https://a/t?x=1,2"],
    ["service", "plain"],
    ["scope", 'a:"b"'],
  ]);
});
