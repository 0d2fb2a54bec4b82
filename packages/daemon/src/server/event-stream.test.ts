import { connect } from "node:net";
import { PassThrough, Readable } from "node:stream";
import { createClient, type Event, readServerSentEvents } from "@berth/api";
import { afterEach, expect, test } from "vitest";
import { listen, testServer } from "./testing/test-server.ts";

const servers: ReturnType<typeof testServer>[] = [];
afterEach(() => Promise.all(servers.splice(0).map(({ app }) => app.close())));

async function serve(tuning: Parameters<typeof testServer>[0] = {}) {
  const server = testServer(tuning);
  servers.push(server);
  const url = await listen(server.app);
  const headers = { authorization: `Bearer ${server.token}` };
  return { ...server, url, headers, client: createClient({ url, token: server.token }) };
}

/** Opens the stream; `next` gives one message after the other. */
async function open(url: string, headers: Record<string, string>, query = "") {
  const leave = new AbortController();
  const answer = await fetch(`${url}/api/v1/events/stream${query}`, { headers, signal: leave.signal });
  const ids: string[] = [];
  const messages = readServerSentEvents(answer.body as ReadableStream<Uint8Array>, (id) => ids.push(id));
  return { answer, ids, next: async () => (await messages.next()).value, leave: () => leave.abort() };
}

test("the stream begins now, after a number, or where the header says, which goes first", async () => {
  const { services, url, headers } = await serve();
  for (let i = 0; i < 5; i += 1) services.emit("instance.changed");
  const now = await open(url, headers);
  expect(now.answer.headers.get("content-type")).toBe("text/event-stream");
  const after = await open(url, headers, "?after=2");
  const resumed = await open(url, { ...headers, "last-event-id": "4" }, "?after=2");
  expect((await after.next())?.id).toBe("3");
  expect((await resumed.next())?.id).toBe("5");
  services.emit("instance.deleted");
  const message = await now.next();
  expect(message?.id).toBe("7");
  expect(JSON.parse(message?.data ?? "")).toMatchObject({ seq: 7, type: "instance.deleted" });
  // Who leaves before the first event knows where to go on, too.
  expect(now.ids[0]).toBe("6");
  for (const stream of [now, after, resumed]) stream.leave();
});

test("a header that is no number is refused", async () => {
  const { url, headers } = await serve();
  for (const id of ["-1", "x", "1.5", "9".repeat(16)]) {
    const answer = await fetch(`${url}/api/v1/events/stream`, { headers: { ...headers, "last-event-id": id } });
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([400, "invalid_request"]);
  }
});

test("a quiet stream has heartbeats", async () => {
  const { url, headers } = await serve({ heartbeatMs: 10 });
  const answer = await fetch(`${url}/api/v1/events/stream`, { headers });
  let text = "";
  for await (const chunk of answer.body as ReadableStream<Uint8Array>) {
    text += new TextDecoder().decode(chunk);
    if (text.split("\n:\n\n").length > 3) break;
  }
});

/** Connects, asks for the stream and reads nothing of it, while there is more to send than the kernel's buffers hold. */
async function readNothing({ services, url, token, app }: Awaited<ReturnType<typeof serve>>) {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.pause();
  socket.on("error", () => {});
  socket.write(
    `GET /api/v1/events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  );
  const large = "x".repeat(200_000);
  for (let i = 0; i < 200; i += 1) services.emit("instance.changed", { large });
  await expect.poll(() => connections(app)).toBe(1);
  return socket;
}

test("a reader that takes nothing in is cut, does not fill the memory, and can resume", async () => {
  const server = await serve({ slowReaderMs: 100, heartbeatMs: 20 });
  const socket = await readNothing(server);
  // The server lets go by itself.
  await expect.poll(() => connections(server.app)).toBe(0);
  socket.destroy();
  const again = await open(server.url, { ...server.headers, "last-event-id": "200" });
  expect((await again.next())?.id).toBe("201");
  again.leave();

  // Negative control: without the limit it stays.
  const patient = await serve({ slowReaderMs: 3_600_000, heartbeatMs: 20 });
  const other = await readNothing(patient);
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(await connections(patient.app)).toBe(1);
  other.destroy();
});

function connections({ server }: ReturnType<typeof testServer>["app"]): Promise<number> {
  return new Promise((resolve, reject) =>
    server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
  );
}

test("a follower who is cut off again and again misses nothing and sees nothing twice", async () => {
  const { app, services, client } = await serve();
  const seen: number[] = [];
  const stop = new AbortController();
  const total = 120;
  const reading = (async () => {
    for await (const event of client.followEvents({ after: 0, signal: stop.signal })) {
      seen.push(event.seq);
      if (event.seq === total) stop.abort();
      if (event.seq % 10 === 0) app.server.closeAllConnections();
    }
  })();
  for (let seq = 2; seq <= total; seq += 1) {
    services.emit("instance.changed");
    if (seq % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await reading;
  expect(seen).toEqual(Array.from({ length: total }, (_, i) => i + 1));
});

test("who resumes after what is not kept any more is told what is missing, and goes on behind it", async () => {
  const { app, services, url, headers, client } = await serve();
  for (let i = 0; i < 4; i += 1) services.emit("instance.changed");
  services.all.forgotten = 4;
  const gap = { after: 2, next: 4 };
  const resumed = await open(url, { ...headers, "last-event-id": "2" });
  const message = await resumed.next();
  expect([message?.id, message?.type, JSON.parse(message?.data ?? "")]).toEqual(["4", "gap", gap]);
  expect(await resumed.next()).toMatchObject({ id: "5", type: "message" });
  const whole = await open(url, headers, "?after=4");
  expect(await whole.next()).toMatchObject({ id: "5", type: "message" });
  for (const stream of [resumed, whole]) stream.leave();
  expect(await client.listEvents({ query: { after: 2 } })).toMatchObject({ items: [{ seq: 5 }], next: 5, gap });
  expect(await client.listEvents({ query: { after: 4 } })).toMatchObject({ gap: null });

  // The client hears of it at its first connection, and after one that broke.
  const stop = new AbortController();
  const seen: unknown[] = [];
  for await (const { seq } of client.followEvents({ after: 2, signal: stop.signal, onGap: (one) => seen.push(one) })) {
    seen.push(seq);
    if (seq === 5) {
      for (let i = 0; i < 3; i += 1) services.emit("instance.changed", {}, "elsewhere");
      services.emit("instance.changed");
      services.all.forgotten = 7;
      app.server.closeAllConnections();
    } else stop.abort();
  }
  expect(seen).toEqual([gap, 5, { after: 5, next: 7 }, 9]);
});

test("following ends when aborted, and throws what the server refuses", async () => {
  const { url, client, services } = await serve();
  const stop = new AbortController();
  const events: Event[] = [];
  const reading = (async () => {
    for await (const event of client.followEvents({ signal: stop.signal })) {
      events.push(event);
      stop.abort();
    }
  })();
  // From now on, whenever that is: so something happens until it is seen.
  await expect.poll(() => events.length + 0 * services.emit("instance.changed").seq).toBe(1);
  await reading;
  expect(events).toHaveLength(1);
  const nobody = createClient({ url, token: "x" });
  await expect(nobody.followEvents().next()).rejects.toMatchObject({ code: "unauthenticated" });
});

test("waiting for an operation shows every change and survives a restart of the server", async () => {
  const { app, services, client, instance } = await serve();
  services.instant = false;
  const { id } = services.begin("instance.start", { kind: "instance", id: instance.id, name: "web" });
  const seen: string[] = [];
  const done = client.waitForOperation(id, {
    onProgress: ({ status, steps }) => seen.push(`${status} ${steps.map(({ percent }) => percent).join()}`),
  });
  const step = {
    name: "boot",
    status: "running",
    startedAt: "2026-11-20T23:00:00.000Z",
    endedAt: null,
    detail: null,
  } as const;
  await expect.poll(() => seen.length).toBe(1);
  services.changeOperation(id, { status: "running", steps: [{ ...step, percent: 10 }] });
  await expect.poll(() => seen.length).toBe(2);
  app.server.closeAllConnections();
  await expect.poll(() => seen.length).toBe(3);
  services.changeOperation(id, { status: "succeeded", steps: [{ ...step, status: "succeeded", percent: 100 }] });
  expect((await done).status).toBe("succeeded");
  expect(seen).toEqual(["pending ", "running 10", "running 10", "succeeded 100"]);
  const stop = new AbortController();
  services.begin("instance.stop", { kind: "instance", id: instance.id, name: "web" });
  const waiting = client.waitForOperation("op-00000000000000003", { signal: stop.signal });
  stop.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
});

test("a quiet log answers at once, and one that fails midway is no whole answer", async () => {
  const { services, client } = await serve();
  const log = new PassThrough();
  services.log = () => log;
  const params = { instance: "web" };
  const stream = await client.instanceLogs({ params, query: { follow: true, tail: 5 } });
  expect(services.calls.at(-1)?.options).toMatchObject({ follow: true, tail: 5, timestamps: false });
  log.write("one line\n");
  const reader = stream.getReader();
  expect(new TextDecoder().decode((await reader.read()).value)).toBe("one line\n");
  log.destroy(new Error("the guest is gone"));
  await expect(reader.read()).rejects.toThrow();
  services.log = () => Readable.from(["whole\n"]);
  expect(await new Response(await client.instanceLogs({ params })).text()).toBe("whole\n");
});

test("who leaves a log ends it on the other side too", async () => {
  const { services, client } = await serve();
  const log = new PassThrough();
  services.log = () => log;
  const leave = new AbortController();
  await client.instanceLogs({ params: { instance: "web" }, query: { follow: true } }, { signal: leave.signal });
  leave.abort();
  await expect.poll(() => log.destroyed).toBe(true);
});
