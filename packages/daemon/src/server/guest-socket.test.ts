import { request } from "node:http";
import { createClient, type GuestSession } from "@berth/api";
import { afterEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { listen, testServer } from "./testing/test-server.ts";

const servers: ReturnType<typeof testServer>[] = [];
afterEach(() => Promise.all(servers.splice(0).map(({ app }) => app.close())));

async function serve(tuning: Parameters<typeof testServer>[0] = {}) {
  const server = testServer(tuning);
  servers.push(server);
  const url = await listen(server.app);
  return { ...server, url, client: createClient({ url, token: server.token }) };
}

/** Everything a session writes, by stream. */
async function readAll(session: GuestSession) {
  const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  for await (const { stream, data } of session.output) parts[stream].push(data);
  return { stdout: Buffer.concat(parts.stdout), stderr: Buffer.concat(parts.stderr) };
}

test("a program's streams, input, end of input and exit code", async () => {
  const { client, services } = await serve();
  const session = client.exec("web", { command: ["cat", "-"], stdin: true });
  const output = readAll(session);
  // Not awaited: what is sent keeps its order all the same.
  void session.write("hello ");
  void session.write(new TextEncoder().encode("wörld"));
  session.endInput();
  const { stdout, stderr } = await output;
  expect([stdout.toString(), stderr.toString(), await session.exit]).toEqual(["hello wörld", "cat -", 3]);
  expect(services.programs[0]?.closed).toBe(true);
});

test("without stdin the program reads end-of-file at once", async () => {
  const { client } = await serve();
  const session = client.exec("web", { command: ["cat"] });
  expect(String((await readAll(session)).stdout)).toBe("");
  expect(await session.exit).toBe(3);
});

test("resizes and signals reach the program, also those sent before it runs", async () => {
  const { client, services } = await serve();
  const session = client.exec("web", { command: ["sh"], tty: true, stdin: true });
  session.resize({ cols: 100, rows: 40 });
  await expect.poll(() => services.programs[0]?.sizes).toEqual([{ cols: 100, rows: 40 }]);
  session.signal("TERM");
  expect(await session.exit).toBe(143);
  expect(services.programs[0]?.signals).toEqual(["TERM"]);
});

test("much data goes both ways at once with little of it in memory", async () => {
  const { client, services } = await serve();
  const session = client.exec("web", { command: ["cat"], stdin: true });
  const block = Buffer.alloc(512 * 1024, 1);
  const writing = (async () => {
    for (let i = 0; i < 40; i += 1) await session.write(block);
    session.endInput();
  })();
  // Nobody reads yet: the writer must come to a stand, with no more under way than two windows and the pipes between.
  await expect.poll(() => services.programs.length).toBe(1);
  let bytes = 0;
  const source = services.programs[0];
  const before = source?.stdout.writableLength ?? 0;
  expect(before).toBeLessThan(4 * 1024 * 1024);
  for await (const { stream, data } of session.output) if (stream === "stdout") bytes += data.length;
  await writing;
  expect(bytes).toBe(40 * block.length);
  expect(await session.exit).toBe(3);
});

test("a client that does not read holds the program back, with a window and without", async () => {
  for (const windowBytes of [64 * 1024, undefined]) {
    const { url, token, services } = await serve();
    let written = 0;
    services.runProgram = (session) => {
      const block = Buffer.alloc(64 * 1024);
      const fill = () => {
        while (written < 500 * 1024 * 1024) {
          written += block.length;
          if (!session.stdout.write(block)) return void session.stdout.once("drain", fill);
        }
      };
      fill();
    };
    const socket = new WebSocket(`${url.replace("http", "ws")}/api/v1/instances/web/exec`, {
      headers: { authorization: `Bearer ${token}` },
    });
    socket.on("open", () => {
      socket.send(JSON.stringify({ command: ["yes"], windowBytes }));
      socket.pause();
    });
    // It comes to a stand: three looks in a row see the same.
    let looks = 0;
    let last = -1;
    await expect
      .poll(
        () => {
          looks = written > 0 && written === last ? looks + 1 : 0;
          last = written;
          return looks;
        },
        { interval: 60 },
      )
      .toBeGreaterThan(3);
    expect(written).toBeLessThan(windowBytes ? 1024 * 1024 : 50 * 1024 * 1024);
    socket.terminate();
    await expect.poll(() => services.programs[0]?.closed).toBe(true);
  }
});

test("leaving kills the program, and so does closing the server", async () => {
  const { client, services, app } = await serve();
  const first = client.exec("web", { command: ["sleep"], stdin: true });
  await expect.poll(() => services.programs.length).toBe(1);
  expect(services.programs[0]?.closed).toBe(false);
  first.close();
  await expect.poll(() => services.programs[0]?.closed).toBe(true);
  await expect(first.exit).rejects.toThrow("closed here");
  const second = client.exec("web", { command: ["sleep"], stdin: true });
  await expect.poll(() => services.programs.length).toBe(2);
  const closing = app.close();
  await expect(second.exit).rejects.toThrow(/shutting down/);
  await closing;
  expect(services.programs[1]?.closed).toBe(true);
});

test("what the guest refuses is told as a problem", async () => {
  const { client, url } = await serve();
  await expect(client.exec("nobody", { command: ["x"] }).exit).rejects.toMatchObject({ code: "not_found" });
  await expect(client.exec("web", { command: [] }).exit).rejects.toMatchObject({ code: "invalid_request" });
  await expect(createClient({ url, token: "x" }).exec("web", { command: ["x"] }).exit).rejects.toMatchObject({
    code: "unauthenticated",
  });
  await expect(client.exec("WEB", { command: ["x"] }).exit).rejects.toMatchObject({ code: "invalid_request" });
  const nowhere = createClient({ url: "http://127.0.0.1:9", token: "x" });
  await expect(nowhere.exec("web", { command: ["x"] }).exit).rejects.toThrow(/does not answer at/);
});

test("the console carries bytes both ways until one side leaves", async () => {
  const { client } = await serve();
  const session = client.console("web");
  const output = session.output[Symbol.asyncIterator]();
  const next = async () => Buffer.from((await output.next()).value?.data ?? []).toString();
  expect(await next()).toBe("login: ");
  await session.write("root\r");
  expect(await next()).toBe("root\r");
  session.close();
  expect((await output.next()).done).toBe(true);
});

/** Opens a raw WebSocket and answers how it went: `open`, or the status and code of the refusal. */
function tryOpen(url: string, headers: Record<string, string>): Promise<string> {
  return new Promise((resolve) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/api/v1/instances/web/console`, { headers });
    socket.on("open", () => {
      socket.close();
      resolve("open");
    });
    socket.on("unexpected-response", async (_, response) => {
      const { code } = JSON.parse(String(Buffer.concat(await response.toArray())));
      resolve(`${response.statusCode} ${code}`);
    });
    socket.on("error", () => {});
  });
}

test("a WebSocket needs a token, a host that is this one and a page that is its own", async () => {
  const { url, token } = await serve();
  const authorization = `Bearer ${token}`;
  expect(await tryOpen(url, {})).toBe("401 unauthenticated");
  expect(await tryOpen(url, { authorization, host: "evil.example" })).toBe("421 host_refused");
  expect(await tryOpen(url, { authorization, origin: "https://evil.example" })).toBe("403 forbidden");
  expect(await tryOpen(url, { authorization, origin: "null" })).toBe("403 forbidden");
  expect(await tryOpen(url, { authorization, origin: url })).toBe("open");
  expect(await tryOpen(url, { authorization })).toBe("open");

  const off = await serve({ without: ["origin-check", "host-check", "authentication"] });
  expect(await tryOpen(off.url, { origin: "https://evil.example", host: "evil.example" })).toBe("open");
});

test("frames that are none of ours close the connection", async () => {
  const { url, token, services } = await serve();
  const attempt = (...messages: (string | Buffer)[]) =>
    new Promise<number>((resolve) => {
      const socket = new WebSocket(`${url.replace("http", "ws")}/api/v1/instances/web/exec`, {
        headers: { authorization: `Bearer ${token}` },
      });
      socket.on("open", () => {
        for (const message of messages) socket.send(message);
      });
      socket.on("close", resolve);
      socket.on("error", () => {});
    });
  const exec = JSON.stringify({ command: ["cat"], stdin: true });
  expect(await attempt(exec, "again")).toBe(1008);
  expect(await attempt(exec, Buffer.from([9, 1]))).toBe(1008);
  expect(await attempt(exec, Buffer.from("\x03not json"))).toBe(1008);
  expect(await attempt(exec, Buffer.from('\x03{"signal":"NOPE"}'))).toBe(1008);
  expect(await attempt(exec, Buffer.alloc(2 * 1024 * 1024))).toBe(1009);
  expect(await attempt("not json")).toBe(1000);
  await expect.poll(() => services.programs.every(({ closed }) => closed)).toBe(true);
});

test("an upgrade to anything else, or of another path, is answered as an ordinary request", async () => {
  const { url, token } = await serve();
  const ask = async (path: string, upgrade: string) => {
    return new Promise<number | undefined>((resolve) => {
      request(
        `${url}${path}`,
        { headers: { authorization: `Bearer ${token}`, connection: "upgrade", upgrade } },
        (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        },
      ).end();
    });
  };
  expect(await ask("/api/v1/instances/web/exec", "h2c")).toBe(426);
  expect(await ask("/api/v1/instances/web", "websocket")).toBe(200);
  expect(await ask("/nowhere", "websocket")).toBe(404);
});
