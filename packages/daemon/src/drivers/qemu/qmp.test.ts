import { type Duplex, duplexPair } from "node:stream";
import { describe, expect, test } from "vitest";
import type { Host } from "../../host/host.ts";
import { Qmp } from "./qmp.ts";

const greeting = '{"QMP":{"version":{},"capabilities":[]}}\r\n';

/** A QEMU that answers each command as told; what it was sent is kept. */
function fakeQemu(answer: (command: { execute: string; id: number }) => string) {
  const [near, far] = duplexPair();
  const commands: string[] = [];
  far.on("data", (chunk: Buffer) => {
    for (const line of chunk.toString().split("\n").filter(Boolean)) {
      const command = JSON.parse(line);
      commands.push(command.execute);
      far.write(command.execute === "qmp_capabilities" ? `{"return":{},"id":${command.id}}\n` : answer(command));
    }
  });
  far.on("error", () => {});
  const host = { connect: async () => near } as unknown as Host;
  return { host, far, commands };
}

const signal = () => AbortSignal.timeout(60_000);

describe("QEMU's machine protocol", () => {
  test("answers find their commands in whatever order and pieces they come, events between them", async () => {
    let first = 0;
    const { host, far, commands } = fakeQemu(({ id }) => {
      if (first === 0) {
        first = id;
        return "";
      }
      return `{"event":"STOP","data":{"a":1},"timestamp":{"seconds":5,"microseconds":1500}}\n{"return":{"n":2},"id":${id}}\n{"return":{"n":1},"id":${first}}\n`;
    });
    far.write(greeting.slice(0, 10));
    far.write(greeting.slice(10));
    const qmp = await Qmp.connect(host, "/s", signal());
    expect(await Promise.all([qmp.execute("a"), qmp.execute("b")])).toEqual([{ n: 1 }, { n: 2 }]);
    expect(commands).toEqual(["qmp_capabilities", "a", "b"]);
    expect(qmp.events("STOP")).toEqual([{ name: "STOP", data: { a: 1 }, atMs: 5001.5 }]);
    expect(qmp.events("RESUME")).toEqual([]);
    qmp.close();
  });

  test("a refusal is the command's alone", async () => {
    const { host, far } = fakeQemu(({ id }) => `{"error":{"class":"GenericError","desc":"no such disk"},"id":${id}}\n`);
    far.write(greeting);
    const qmp = await Qmp.connect(host, "/s", signal());
    await expect(qmp.execute("x")).rejects.toMatchObject({
      name: "QmpError",
      kind: "GenericError",
      message: "no such disk",
    });
    qmp.close();
  });

  test("an event is waited for, until the conversation ends or nobody waits any more", async () => {
    const { host, far } = fakeQemu(() => "");
    far.write(greeting);
    const qmp = await Qmp.connect(host, "/s", signal());
    const resumed = () => qmp.events("RESUME").at(-1);
    const waiting = qmp.until(resumed, signal());
    const given = new Error("no longer");
    const nobody = new AbortController();
    const aborted = qmp.until(resumed, nobody.signal);
    nobody.abort(given);
    await expect(aborted).rejects.toBe(given);
    far.write('{"event":"STOP"}\n');
    far.write('{"event":"RESUME"}\n');
    expect(await waiting).toMatchObject({ name: "RESUME" });
    const stopped = qmp.until(() => qmp.events("SHUTDOWN").at(-1), signal());
    far.end();
    await expect(stopped).rejects.toThrow("closed");
  });

  test.each([
    ["its end", (far: Duplex) => far.end()],
    ["something else than JSON", (far: Duplex) => far.write("hello\n")],
    ["a line without end", (far: Duplex) => far.write("x".repeat(1024 * 1024 + 1))],
  ])("%s fails what waits, and what comes after", async (_, act) => {
    const { host, far } = fakeQemu(() => "");
    far.write(greeting);
    const qmp = await Qmp.connect(host, "/s", signal());
    const waiting = qmp.execute("x");
    act(far);
    await expect(waiting).rejects.toThrow();
    await expect(qmp.execute("y")).rejects.toThrow();
  });

  test("one that does not greet is left at the time limit", async () => {
    const { host } = fakeQemu(() => "");
    await expect(Qmp.connect(host, "/s", AbortSignal.timeout(20))).rejects.toMatchObject({ name: "TimeoutError" });
  });
});
