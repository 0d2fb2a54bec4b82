import { connect } from "node:net";
import { BerthError, type Route, routes } from "@berth/api";
import { afterEach, expect, test } from "vitest";
import { makeToken } from "../identity/tokens.ts";
import { createServer } from "./create-server.ts";
import { joinHandlers } from "./routes/index.ts";
import { FakeServices } from "./testing/fake-services.ts";
import { listen, testServer } from "./testing/test-server.ts";
import { streamTypeOf } from "./validate.ts";

const servers: ReturnType<typeof testServer>[] = [];
afterEach(() => Promise.all(servers.splice(0).map(({ app }) => app.close())));

function serve(...args: Parameters<typeof testServer>) {
  const server = testServer(...args);
  servers.push(server);
  return server;
}

/** A route's path with something that is there in place of each parameter. */
const pathOf = (route: Route) =>
  route.path
    .replace(":instance", "web")
    .replace(":operation", "op-00000000000000001")
    .replace(":archive", "arc-00000000000000001")
    .replace(/:\w+/, "none");

/** What protections are switched off to see their tests fail. */
const withoutAuthentication = { without: ["authentication"] } as const;

const isHeld = (answer: { statusCode: number; json(): { code: string } }, code: string) =>
  answer.statusCode >= 400 && answer.json().code === code;

/** What an answer was refused with; the answer to HEAD has no body, only its length. */
const codeOf = (answer: { statusCode: number; body: string; json(): { code: string } }) =>
  answer.body === "" ? { 401: "unauthenticated", 403: "forbidden" }[answer.statusCode] : answer.json().code;

test("every route refuses who has no token, a wrong one, or one of another form", async () => {
  const refusals = async (tuning: Parameters<typeof testServer>[0]) => {
    const { app } = serve(tuning);
    const answers = [];
    for (const route of Object.values<Route>(routes).filter((one) => one.kind !== "events" && !one.public)) {
      for (const authorization of [undefined, `Bearer ${makeToken()}`, "Bearer x", "Basic YTpi", "Bearer ", "berth"]) {
        const headers = { host: "localhost", ...(authorization === undefined ? {} : { authorization }) };
        answers.push(await app.inject({ method: route.method, url: pathOf(route), headers }));
      }
    }
    return answers;
  };
  for (const answer of await refusals({})) {
    expect(answer.statusCode).toBe(401);
    expect(codeOf(answer)).toBe("unauthenticated");
    expect(answer.headers["www-authenticate"]).toBe('Bearer realm="berth"');
  }
  // Negative control.
  expect((await refusals(withoutAuthentication)).some(({ statusCode }) => statusCode === 401)).toBe(false);
});

test("nobody's body is read", async () => {
  const { app } = serve();
  const url = await listen(app);
  // A body that never comes: were it waited for, there would be no answer.
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.write(
    "POST /api/v1/instances HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
  );
  const [answer] = await socket.take(1).toArray();
  expect(String(answer)).toContain("401 Unauthorized");
  socket.destroy();
});

test("a token for one project opens no other; authorize() is asked on every route", async () => {
  const tries = async (tuning: Parameters<typeof testServer>[0]) => {
    const { app, services } = serve(tuning);
    const token = makeToken();
    services.addToken(token, { project: "shop" });
    const headers = { host: "localhost", authorization: `Bearer ${token}` };
    const answers = [];
    for (const route of Object.values<Route>(routes)) {
      const takesProject = route.query !== undefined && "project" in route.query.shape;
      if (!takesProject || route.kind === "events") continue;
      const path = "path" in (route.query?.shape ?? {}) ? "&path=/x" : "";
      // Each body's schema has an example that it accepts.
      const [example] = (route.body?.meta()?.examples ?? []) as unknown[];
      const payload = route.body && JSON.stringify(example);
      const type = streamTypeOf(route) ?? (payload ? "application/json" : undefined);
      answers.push(
        await app.inject({
          method: route.method,
          url: `${pathOf(route)}?project=default${path}`,
          headers: type ? { ...headers, "content-type": type } : headers,
          ...(payload ? { payload } : {}),
        }),
      );
    }
    return answers;
  };
  for (const answer of await tries({})) expect([answer.statusCode, codeOf(answer)]).toEqual([403, "forbidden"]);
  expect((await tries({ without: ["authorization"] })).some(({ statusCode }) => statusCode === 403)).toBe(false);
});

test("an operation of another project is forbidden although it is named by id alone", async () => {
  const { app, services, operation } = serve();
  const token = makeToken();
  services.addToken(token, { project: "shop" });
  for (const [method, verb] of [
    ["GET", ""],
    ["GET", "/wait"],
    ["GET", "/watch"],
    ["POST", "/cancel"],
    ["GET", "/log"],
  ] as const) {
    const answer = await app.inject({
      method,
      url: `/api/v1/operations/${operation.id}${verb}`,
      headers: { host: "localhost", authorization: `Bearer ${token}` },
    });
    expect(answer.json().code).toBe("forbidden");
  }
});

test("a name that is not this host's is refused, as DNS rebinding sends it", async () => {
  const evil = ["evil.example", "evil.example:8642", "127.0.0.1.evil.example", "localhost.evil.example", "a b", "[::1"];
  const kind = ["localhost", "localhost:8642", "127.0.0.1", "127.0.0.1:8642", "[::1]:8642", "LOCALHOST", "10.0.0.7:80"];
  const { send } = serve();
  for (const url of ["/api/v1/instances", "/healthz", "/docs", "/nowhere"]) {
    for (const host of evil) {
      const answer = await send({ url, headers: { host } });
      expect([host, answer.statusCode, answer.json().code]).toEqual([host, 421, "host_refused"]);
    }
    for (const host of kind) expect((await send({ url, headers: { host } })).statusCode).not.toBe(421);
  }
  const named = createServer({ services: new FakeServices(), hostNames: ["Box.example"] });
  expect((await named.inject({ url: "/healthz", headers: { host: "box.example:80" } })).statusCode).toBe(200);
  expect((await named.inject({ url: "/healthz", headers: { host: "box.example.evil" } })).statusCode).toBe(421);
  const off = serve({ without: ["host-check"] });
  for (const host of evil) expect((await off.send({ url: "/healthz", headers: { host } })).statusCode).toBe(200);
});

test("no answer lets a page of another origin read it, or a cache keep it", async () => {
  const { send } = serve();
  for (const method of ["GET", "OPTIONS"] as const) {
    const { headers } = await send({
      method,
      url: "/api/v1/instances",
      headers: { origin: "https://evil.example", "access-control-request-method": "GET" },
    });
    expect(Object.keys(headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
    expect(headers["cache-control"]).toBe("no-store");
    expect(headers["x-content-type-options"]).toBe("nosniff");
    expect(headers["content-security-policy"]).toBe("default-src 'none'; frame-ancestors 'none'");
    expect(headers["cross-origin-resource-policy"]).toBe("same-origin");
    expect(headers["referrer-policy"]).toBe("no-referrer");
    expect(headers["strict-transport-security"]).toBeUndefined();
  }
});

test("what is wrong is named, part by part", async () => {
  const { send } = serve();
  const answer = await send({
    method: "POST",
    url: "/api/v1/instances?wiat=1&wait=soon",
    payload: { image: "", cpus: 0, ports: [{ guestPort: 99999, colour: "red" }], labels: { "": "x" }, size: "big" },
  });
  expect(answer.statusCode).toBe(400);
  const { code, errors } = answer.json();
  expect(code).toBe("invalid_request");
  expect(errors.map(({ path }: { path: string }) => path).sort()).toEqual([
    "body.cpus",
    "body.image",
    "body.labels.",
    "body.ports.0.colour",
    "body.ports.0.guestPort",
    "body.size",
    "query.wait",
    "query.wiat",
  ]);
  for (const { message } of errors) expect(message).not.toBe("");
});

test("unknown paths and methods, and what is no request for a body or has none", async () => {
  const { send } = serve();
  expect(isHeld(await send({ url: "/api/v1/nothing" }), "route_not_found")).toBe(true);
  const wrongMethod = await send({ method: "PUT", url: "/api/v1/instances/web" });
  expect(isHeld(wrongMethod, "method_not_allowed")).toBe(true);
  expect(wrongMethod.headers.allow).toBe("GET, PATCH, DELETE");
  expect(
    isHeld(await send({ method: "POST", url: "/api/v1/instances/web/start", payload: { a: 1 } }), "invalid_request"),
  ).toBe(true);
  expect(isHeld(await send({ method: "POST", url: "/api/v1/instances" }), "invalid_request")).toBe(true);
  expect(isHeld(await send({ url: "/api/v1/instances/web/exec" }), "upgrade_required")).toBe(true);
  const json = { method: "POST", url: "/api/v1/instances" } as const;
  const typed = (type: string, payload: string) => send({ ...json, payload, headers: { "content-type": type } });
  expect(isHeld(await typed("text/plain", "{}"), "unsupported_media_type")).toBe(true);
  expect(isHeld(await typed("application/x-tar", "{}"), "unsupported_media_type")).toBe(true);
  expect(isHeld(await typed("application/json", "{"), "invalid_request")).toBe(true);
  expect(isHeld(await typed("application/json", '{"image":"x","__proto__":{"a":1}}'), "invalid_request")).toBe(true);
  expect((await typed("application/json; charset=utf-8", '{"image":"x"}')).statusCode).toBe(202);
  // RFC 7396 has a type of its own for what a PATCH is sent.
  const mergePatch = { payload: '{"cpus":2}', headers: { "content-type": "application/merge-patch+json" } };
  expect((await send({ method: "PATCH", url: "/api/v1/instances/web", ...mergePatch })).statusCode).toBe(202);
  expect(isHeld(await send({ ...json, ...mergePatch }), "unsupported_media_type")).toBe(true);
  const files = { method: "PUT", url: "/api/v1/instances/web/files?path=/x", payload: "{}" } as const;
  expect(
    isHeld(await send({ ...files, headers: { "content-type": "application/json" } }), "unsupported_media_type"),
  ).toBe(true);
});

test("a body too large or too deep is refused, and only then", async () => {
  const { send } = serve({ maxBodyBytes: 2000 });
  const post = (payload: string) =>
    send({ method: "POST", url: "/api/v1/instances", payload, headers: { "content-type": "application/json" } });
  const large = await post(JSON.stringify({ image: "x", env: { A: "y".repeat(2000) } }));
  expect([large.statusCode, large.json().code]).toEqual([413, "body_too_large"]);
  const deep = await post(`{"image":${"[".repeat(33)}${"]".repeat(33)}}`);
  expect(deep.json().detail).toContain("deeper than 32");
  // Brackets inside a string are no depth, and a quote that is escaped ends none.
  expect((await post(JSON.stringify({ image: "x", env: { A: `\\"${"[".repeat(100)}` } }))).statusCode).toBe(202);

  const off = serve({ maxBodyBytes: 1e6, maxJsonDepth: 1e6 });
  const nested = `{"image":"x","env":${"[".repeat(200)}${"]".repeat(200)}}`;
  const answer = await off.send({
    method: "POST",
    url: "/api/v1/instances",
    payload: nested,
    headers: { "content-type": "application/json" },
  });
  expect(answer.json().errors[0].path).toBe("body.env");
});

test("an archive may be larger than any JSON", async () => {
  const { send, services } = serve({ maxBodyBytes: 1000 });
  const answer = await send({
    method: "PUT",
    url: "/api/v1/instances/web/files?path=/x",
    payload: Buffer.alloc(100_000, 7),
    headers: { "content-type": "application/x-tar" },
  });
  expect(answer.statusCode).toBe(204);
  expect(Buffer.concat(services.tars).length).toBe(100_000);
});

test("a key makes a repeated request one, and is refused for another", async () => {
  const { send, services } = serve();
  const create = (payload: object, key: string, query = "") =>
    send({ method: "POST", url: `/api/v1/instances${query}`, payload, headers: { "idempotency-key": key } });
  const first = await create({ image: "x", name: "one", labels: { a: "1", b: "2" } }, "k1");
  // Order of keys, defaults written out and how long to wait are not what is asked for.
  const again = await create({ labels: { b: "2", a: "1" }, name: "one", image: "x", cpus: 1 }, "k1", "?wait=1");
  expect(again.json().instance.id).toBe(first.json().instance.id);
  expect(isHeld(await create({ image: "x", name: "two" }, "k1"), "idempotency_mismatch")).toBe(true);
  expect(isHeld(await create({ image: "x" }, "two words"), "invalid_request")).toBe(true);
  expect(isHeld(await create({ image: "x" }, "x".repeat(256)), "invalid_request")).toBe(true);
  expect([...services.all.instances.values()].filter(({ name }) => name === "one")).toHaveLength(1);
});

test("If-Match refuses a change of what was changed since", async () => {
  const { send, services } = serve();
  const read = await send({ url: "/api/v1/instances/web" });
  expect(read.headers.etag).toBe('"1"');
  const stop = (match: string) =>
    send({ method: "POST", url: "/api/v1/instances/web/stop", headers: { "if-match": match } });
  const changed = await stop('"1"');
  expect([changed.statusCode, changed.headers.etag]).toEqual([202, '"2"']);
  for (const match of ['"1"', 'W/"2"', '"other"', '"7", "8"'])
    expect(isHeld(await stop(match), "precondition_failed")).toBe(true);
  for (const match of ["2", '"2', "two", '"2",']) expect(isHeld(await stop(match), "invalid_request")).toBe(true);
  expect((await stop('"7", "2"')).statusCode).toBe(202);
  expect((await stop("*")).statusCode).toBe(202);
  expect(services.calls.at(-1)?.options).toMatchObject({ ifMatch: null, queue: false, force: false });
});

test("pages are walked by cursor and by Link header", async () => {
  const { send, services, image } = serve();
  for (let i = 0; i < 5; i += 1)
    await send({
      method: "POST",
      url: "/api/v1/instances",
      payload: { image: image.id, name: `n${i}`, labels: { odd: String(i % 2) } },
    });
  const seen: string[] = [];
  let url: string | undefined = "/api/v1/instances?limit=2&label=odd";
  while (url) {
    const answer = await send({ url });
    seen.push(...answer.json().items.map(({ name }: { name: string }) => name));
    url = /^<([^>]+)>; rel="next"$/.exec(String(answer.headers.link ?? ""))?.[1];
    expect(url === undefined).toBe(answer.json().nextCursor === null);
  }
  expect(seen).toEqual(["n0", "n1", "n2", "n3", "n4"]);
  const names = async (query: string) =>
    (await send({ url: `/api/v1/instances?${query}` })).json().items.map(({ name }: { name: string }) => name);
  expect(await names("label=odd=1")).toEqual(["n1", "n3"]);
  expect(await names("label=team=a&label=tier")).toEqual(["web"]);
  expect(await names("label=odd=2")).toEqual([]);
  expect(await names("label=team%3Da")).toEqual(["web"]);
  expect(services.all.instances.size).toBe(6);
});

test("a change is 202 with or without waiting; waiting tells the end, or how far it got", async () => {
  const { send, services } = serve();
  services.instant = false;
  const start = (query: string) => send({ method: "POST", url: `/api/v1/instances/web/start${query}` });
  const now = await start("");
  expect([now.statusCode, now.json().operation.status]).toEqual([202, "pending"]);
  expect(now.headers.location).toBe(`/api/v1/operations/${now.json().operation.id}`);
  const early = await start("?wait=0.02");
  expect([early.statusCode, early.json().operation.status]).toEqual([202, "pending"]);
  const waiting = start("?wait=60");
  await expect.poll(() => services.all.operations.size).toBe(4);
  services.changeOperation("op-00000000000000004", { status: "failed" });
  const late = await waiting;
  expect([late.statusCode, late.json().operation.status]).toEqual([202, "failed"]);
  const poll = await send({ url: "/api/v1/operations/op-00000000000000004/wait?timeout=60" });
  expect(poll.json().status).toBe("failed");
});

test("a client's own request id is kept when it is plain", async () => {
  const { send } = serve();
  const id = async (given: string) =>
    (await send({ url: "/healthz", headers: { "x-request-id": given } })).headers["x-request-id"];
  expect(await id("deploy-7.2_x")).toBe("deploy-7.2_x");
  expect(await id("<script>")).toMatch(/^req-[0-9a-f]{8}-\d+$/);
  expect(await id("x".repeat(65))).toMatch(/^req-/);
});

test("an unexpected error tells nothing of itself", async () => {
  const { send, services } = serve();
  services.instances.get = async () => {
    throw new Error("password=hunter2");
  };
  const answer = await send({ url: "/api/v1/instances/web" });
  expect([answer.statusCode, answer.json().code]).toEqual([500, "internal"]);
  expect(answer.body).not.toContain("hunter2");
});

test("an answer that tells more than its schema is caught in tests", async () => {
  const { send, services, instance } = serve();
  services.all.instances.set(instance.id, { ...instance, secret: "x" } as never);
  expect((await send({ url: "/api/v1/instances/web" })).statusCode).toBe(500);
});

test.each([
  ["HELLO\r\n\r\n", "400 ", "invalid_request"],
  ["GET /api/v1/instances HTTP/1.1\r\nConnection: close\r\n\r\n", "421 ", "host_refused"],
])("what is no HTTP, or says not whom it is for, gets a problem too: %j", async (request, status, code) => {
  const { app } = serve();
  const url = await listen(app);
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.end(request);
  const answer = String(Buffer.concat(await socket.toArray()));
  expect(answer).toContain(`HTTP/1.1 ${status}`);
  expect(JSON.parse(answer.split("\r\n\r\n")[1] ?? "")).toMatchObject({ code });
});

test("closing ends streams and waits at once, and cuts what does not end in time", async () => {
  const { app, services, token } = testServer({ closeMs: 300 });
  services.instant = false;
  const url = await listen(app);
  const headers = { authorization: `Bearer ${token}` };
  const events = await fetch(`${url}/api/v1/events/stream`, { headers });
  const waiting = fetch(`${url}/api/v1/instances/web/start?wait=600`, { method: "POST", headers });
  await expect.poll(() => services.all.operations.size).toBe(2);
  let asked = false;
  services.nodes.list = () => {
    asked = true;
    return new Promise(() => {});
  };
  const never = fetch(`${url}/api/v1/nodes`, { headers }).catch(() => "cut");
  await expect.poll(() => asked).toBe(true);
  const before = performance.now();
  const closed = app.close();
  expect(await events.text()).toContain("retry:");
  // The change was accepted, so it is answered as such.
  const answer = await waiting;
  expect([answer.status, ((await answer.json()) as { operation: { status: string } }).operation.status]).toEqual([
    202,
    "pending",
  ]);
  await closed;
  expect(await never).toBe("cut");
  expect(performance.now() - before).toBeLessThan(30_000);
});

test("an upload goes on where it is, as tus has it, and nowhere else", async () => {
  const { send } = serve();
  const body = { name: "big.berth", sizeBytes: 3_000_000, beginning: "0".repeat(64) };
  const made = await send({ method: "POST", url: "/api/v1/archives", payload: body });
  expect([made.statusCode, made.json().state]).toEqual([201, "receiving"]);
  const url = `${made.headers.location}/content`;
  const ask = async () => (await send({ method: "HEAD", url })).headers;
  expect(await ask()).toMatchObject({ "upload-offset": "0", "upload-length": "3000000", "tus-resumable": "1.0.0" });
  const patch = (offset: string | undefined, bytes: number, more: Record<string, string> = {}) => {
    const type = { "content-type": "application/offset+octet-stream" };
    const headers = { ...type, ...(offset === undefined ? {} : { "upload-offset": offset }), ...more };
    return send({ method: "PATCH", url, payload: Buffer.alloc(bytes), headers });
  };
  // More than JSON may have.
  const part = await patch("0", 2_000_000, { "tus-resumable": "1.0.0" });
  expect([part.statusCode, part.headers["upload-offset"]]).toEqual([204, "2000000"]);
  expect(await ask()).toMatchObject({ "upload-offset": "2000000" });
  expect(isHeld(await patch("0", 10), "upload_offset")).toBe(true);
  expect(isHeld(await patch(undefined, 10), "invalid_request")).toBe(true);
  expect(isHeld(await patch("-1", 10), "invalid_request")).toBe(true);
  expect(isHeld(await patch("2000000", 10, { "tus-resumable": "2.0.0" }), "precondition_failed")).toBe(true);
  const json = { method: "PATCH", url, payload: "{}", headers: { "content-type": "application/json" } } as const;
  expect(isHeld(await send(json), "unsupported_media_type")).toBe(true);
});

test("an upload that is refused midway does not hold up what its client sends next", async () => {
  const { services, archive, app, token } = serve();
  const url = `${await listen(app)}/api/v1/archives/${archive.id}/content`;
  services.archives.write = async (_scope, _id, { body }) => {
    for await (const _ of body) throw new BerthError("disk_full", "No space is left for what is sent.");
    return 0;
  };
  const headers = {
    authorization: `Bearer ${token}`,
    "content-type": "application/offset+octet-stream",
    "upload-offset": "0",
  };
  for (let round = 0; round < 3; round += 1) {
    const answer = await fetch(url, { method: "PATCH", headers, body: Buffer.alloc(1_000_000) });
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([507, "disk_full"]);
  }
});

test("a file is sent whole or in the part that is asked for, and never under another name than its own", async () => {
  const { send, archive } = serve();
  const url = `/api/v1/archives/${archive.id}/content`;
  const whole = await send({ url });
  expect([whole.statusCode, whole.body]).toEqual([200, "the bytes of an archive"]);
  expect(whole.headers).toMatchObject({
    "accept-ranges": "bytes",
    "content-length": "23",
    "content-disposition": 'attachment; filename="web.berth"',
    etag: `"${archive.id}"`,
  });
  const rest = await send({ url, headers: { range: "bytes=4-", "if-range": `"${archive.id}"` } });
  expect([rest.statusCode, rest.body]).toEqual([206, "bytes of an archive"]);
  expect(rest.headers).toMatchObject({ "content-range": "bytes 4-22/23", "content-length": "19" });
  const other = await send({ url, headers: { range: "bytes=4-", "if-range": '"another"' } });
  expect([other.statusCode, other.body]).toEqual([200, "the bytes of an archive"]);
  const beyond = await send({ url, headers: { range: "bytes=23-" } });
  expect(isHeld(beyond, "range_not_satisfiable")).toBe(true);
  expect([beyond.statusCode, beyond.headers["content-range"]]).toEqual([416, "bytes */23"]);
});

test("each route has one handler, and each handler a route", () => {
  const a = { listNodes: () => {} };
  expect(() => joinHandlers([a, a], ["listNodes"])).toThrow("Two handlers");
  expect(() => joinHandlers([a], ["listNodes", "getNode"])).toThrow("No handler answers getNode");
  expect(() => joinHandlers([a], [])).toThrow("not in the table");
  expect(Object.keys(joinHandlers()).sort()).toEqual(Object.keys(routes).sort());
});
