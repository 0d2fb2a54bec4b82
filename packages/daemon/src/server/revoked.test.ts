import { Readable } from "node:stream";
import { createClient } from "@berth/api";
import { afterEach, describe, expect, test } from "vitest";
import type { Caller } from "../identity/authorize.ts";
import { makeToken } from "../identity/tokens.ts";
import type { Tuning } from "./create-server.ts";
import { listen, testServer } from "./testing/test-server.ts";

const servers: ReturnType<typeof testServer>[] = [];
afterEach(() => Promise.all(servers.splice(0).map(({ app }) => app.close())));

/** A server that neither remembers nor looks by itself for long, and a client with a token that can be dropped. */
async function serve(tuning: Partial<Tuning> = {}) {
  const server = testServer({ tokenCacheMs: 3_600_000, ...tuning });
  servers.push(server);
  const token = makeToken();
  server.services.addToken(token, { project: "default", role: "operator" });
  const url = await listen(server.app);
  const headers = { authorization: `Bearer ${token}` };
  const drop = () => server.services.dropToken(token);
  return { ...server, url, headers, client: createClient({ url, token }), drop };
}

/** Things that go on for long: each begins one, and gives what resolves with how it ended. */
const goings: Record<string, (served: Awaited<ReturnType<typeof serve>>) => Promise<() => Promise<unknown>>> = {
  "an event stream": async ({ url, headers }) => {
    const answer = await fetch(`${url}/api/v1/events/stream`, { headers });
    return () => answer.text();
  },
  "a log that is followed": async ({ url, headers, services }) => {
    services.log = () => new Readable({ read() {} });
    const answer = await fetch(`${url}/api/v1/instances/web/logs?follow=true`, { headers });
    return () => answer.text().catch(() => "cut");
  },
  "a program in a guest": async ({ client }) => {
    const session = client.exec("web", { command: ["cat"], stdin: true });
    await session.write(Buffer.from("x"));
    const output = session.output[Symbol.asyncIterator]();
    await output.next();
    return () => session.exit.catch((error: unknown) => error);
  },
  "a console": async ({ client }) => {
    const session = client.console("web");
    const output = session.output[Symbol.asyncIterator]();
    await output.next();
    return () => session.exit.catch((error: unknown) => error);
  },
  "a wait for an operation": async ({ url, headers, services }) => {
    services.instant = false;
    const { id } = services.begin("instance.stop", { kind: "instance", id: "i-1", name: "web" });
    const { watch } = services.operations;
    const begun = Promise.withResolvers<void>();
    services.operations.watch = (...args) => {
      begun.resolve();
      return watch(...args);
    };
    const answer = fetch(`${url}/api/v1/operations/${id}/wait?timeout=600`, { headers });
    await begun.promise;
    return () => answer.then((one) => one.status);
  },
};

describe("what is open under a token that is revoked", () => {
  test.each(Object.keys(goings))("%s ends within a second", async (name) => {
    const served = await serve();
    const end = await goings[name]?.(served);
    const began = performance.now();
    served.drop();
    await end?.();
    expect(performance.now() - began).toBeLessThan(1000);
    expect((await fetch(`${served.url}/api/v1/instances`, { headers: served.headers })).status).toBe(401);
  });

  test("ends with its reason", async () => {
    const served = await serve();
    const end = await goings["a program in a guest"]?.(served);
    served.drop();
    expect(await end?.()).toMatchObject({ code: "unauthenticated" });
  });

  test("under an access token: goes on when that has expired, and ends with the login", async () => {
    const served = await serve();
    const [known] = served.services.callers.values();
    const caller = known as Caller;
    const asked = Promise.withResolvers<void>();
    let hasEnded = false;
    const again = async () => {
      asked.resolve();
      return hasEnded ? undefined : caller;
    };
    served.services.accessTokens.set("eyJh.eyJp.c2ln", { ...caller, again });
    const headers = { authorization: "Bearer eyJh.eyJp.c2ln" };
    const end = await goings["an event stream"]?.({ ...served, headers });
    served.services.accessTokens.clear();
    served.drop();
    expect((await fetch(`${served.url}/api/v1/instances`, { headers })).status).toBe(401);
    await asked.promise;
    hasEnded = true;
    served.drop();
    await end?.();
  });

  test("ends although no word of it came, since it is asked about again and again", async () => {
    const served = await serve({ tokenCacheMs: 50 });
    const end = await goings["an event stream"]?.(served);
    served.services.callers.clear();
    await end?.();
  });

  test.each(Object.keys(goings))("negative control: %s would go on", async (name) => {
    const served = await serve({ without: ["asking-again"] });
    const end = await goings[name]?.(served);
    served.drop();
    const ended = await Promise.race([
      end?.().then(() => true),
      new Promise((resolve) => setTimeout(resolve, 100, false)),
    ]);
    expect(ended).toBe(false);
  });
});
