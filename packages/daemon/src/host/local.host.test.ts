import { once } from "node:events";
import { mkdir, stat, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { eventually } from "../../../../test/support/eventually.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import type { ProcessIdentity } from "./host.ts";
import { localHost } from "./local.ts";

const host = localHost();
const isRoot = process.getuid?.() === 0;
const signal = () => AbortSignal.timeout(60_000);

describe("a program", () => {
  test("gets its arguments as they are and an environment of its own", async () => {
    const { stdout } = await host.run("printf", ["%s|", "a b", "$HOME", "'\";*"]);
    expect(stdout).toBe("a b|$HOME|'\";*|");
    const { stdout: env } = await host.run("env", [], { env: { A: "1" } });
    expect(
      env
        .trim()
        .split("\n")
        .map((line) => line.split("=")[0])
        .sort(),
    ).toEqual(["A", "LANG", "PATH"]);
  });

  test("reads its input to the end, also one it does not want", async () => {
    expect((await host.run("cat", [], { input: "héllo" })).stdout).toBe("héllo");
    await host.run("true", [], { input: Buffer.alloc(1_000_000) });
  });

  test.each([
    ["a failure", "sh", ["-c", "echo why >&2; exit 3"], {}, { reason: "exit", exitCode: 3, stderr: "why\n" }],
    ["its absence", "no-such-program", [], {}, { reason: "not-found" }],
    ["its time limit", "sleep", ["60"], { timeoutMs: 20 }, { reason: "timeout" }],
    ["too much output", "yes", [], { maxOutputBytes: 1000 }, { reason: "output" }],
    ["a signal", "sh", ["-c", "kill -9 $$"], {}, { reason: "killed", signal: "SIGKILL" }],
    ["cancelling", "sleep", ["60"], { signal: AbortSignal.timeout(20) }, { reason: "aborted" }],
  ])("ends with an error that says so: %s", async (_, program, args, options, facts) => {
    await expect(host.run(program, args, options)).rejects.toMatchObject({ name: "ProgramError", ...facts });
  });

  test("ends with all it started", async () => {
    const lines: string[] = [];
    const run = host.run("sh", ["-c", "sleep 60 & echo $!; wait"], {
      timeoutMs: 100,
      onLine: (line) => lines.push(line),
    });
    await expect(run).rejects.toMatchObject({ reason: "timeout" });
    const child = await host.identify(Number(lines[0]));
    if (child) await host.waitForExit(child, signal());
  });

  test("is not waited for once it was ended, though what left its session holds its streams", async () => {
    const folder = await scratchDirectory("left");
    const stop = new AbortController();
    const leaving = (pidFile: string) => ["-c", `setsid sh -c 'echo $$ > ${pidFile}; exec sleep 600' & exit 0`];
    const [one, other] = [join(folder, "1"), join(folder, "2")];
    const ended = [
      host.run("sh", leaving(one), { timeoutMs: 300_000, signal: stop.signal }),
      host.start("sh", leaving(other), { signal: stop.signal }).done,
    ].map((done) => expect(done).rejects.toMatchObject({ reason: "aborted" }));
    const holders = await eventually(async () => {
      const pids = await Promise.all([one, other].map((path) => host.files.readText(path)));
      const found = await Promise.all(pids.map((pid) => host.identify(Number(pid || "none"))));
      expect(found).not.toContain(undefined);
      return found as ProcessIdentity[];
    });
    stop.abort();
    await Promise.all(ended);
    for (const holder of holders) expect(await host.signal(holder, "SIGKILL")).toBe(true);
  });

  test("hands over its lines as they come, and its streams", async () => {
    const lines: [string, string][] = [];
    await host.run("sh", ["-c", "printf 'a\\r\\nb\\nc'; echo d >&2"], {
      onLine: (line, stream) => lines.push([line, stream]),
    });
    expect(lines.filter(([, stream]) => stream === "stdout").map(([line]) => line)).toEqual(["a", "b", "c"]);
    expect(lines).toContainEqual(["d", "stderr"]);
    const program = host.start("tr", ["a-z", "A-Z"], { input: "abc" });
    expect(await text(program.stdout)).toBe("ABC");
    await program.done;
  });

  test.runIf(isRoot)("runs as another user with no group but that user's", async () => {
    const { stdout } = await host.run("sh", ["-c", "id -u; id -G"], { uid: 65534, gid: 65534 });
    expect(stdout).toBe("65534\n65534\n");
  });
});

describe("a detached process", () => {
  test("has a session of its own, its streams and descriptors, and is waited for", async () => {
    const folder = await scratchDirectory("detach");
    const outputPath = join(folder, "out");
    const [{ readFd, writeFd } = { readFd: -1, writeFd: -1 }] = await host.pipes(1);
    const writer = await host.detach("sh", ["-c", "echo to three >&3; echo out"], {
      cwd: folder,
      outputPath,
      fds: [writeFd],
    });
    const reader = await host.detach("cat", [], { cwd: folder, inputFd: readFd, outputPath: `${outputPath}2` });
    for (const one of [writer, reader]) await host.waitForExit(one, signal());
    expect(await host.files.readText(outputPath)).toBe("out\n");
    expect(await host.files.readText(`${outputPath}2`)).toBe("to three\n");
    const sleeper = await host.detach("sleep", ["60"], { cwd: "/" });
    const { stdout } = await host.run("ps", ["-o", "sid=", "-p", String(sleeper.pid)]);
    expect(Number(stdout)).toBe(sleeper.pid);
    await host.signal(sleeper, "SIGKILL");
    await host.waitForExit(sleeper, signal());
    expect(await host.isAlive(sleeper)).toBe(false);
  });

  test("is ended with all that it started", async () => {
    const outputPath = join(await scratchDirectory("group"), "out");
    const parent = await host.detach("sh", ["-c", "sleep 60 & echo $!; wait"], { cwd: "/", outputPath });
    const child = await eventually(async () => {
      const found = await host.identify(Number((await host.files.readText(outputPath)) || "none"));
      expect(found).toBeDefined();
      return found as ProcessIdentity;
    });
    expect(await host.signalGroup({ ...parent, startTicks: "1" }, "SIGKILL")).toBe(false);
    expect(await host.signalGroup(parent, "SIGKILL")).toBe(true);
    for (const one of [parent, child]) await host.waitForExit(one, signal());
  });

  test("is told from a zombie, and from another with its pid, which is never signalled", async () => {
    const sleeper = await host.detach("sleep", ["60"], { cwd: "/" });
    const others: ProcessIdentity[] = [
      { ...sleeper, startTicks: "1" },
      { ...sleeper, bootId: "another" },
    ];
    for (const other of others) {
      expect(await host.isAlive(other)).toBe(false);
      expect(await host.signal(other, "SIGKILL")).toBe(false);
      await host.waitForExit(other, signal());
    }
    expect(await host.isAlive(sleeper)).toBe(true);
    await host.signal(sleeper, "SIGKILL");
    // A parent that never waits leaves a zombie.
    const zombie = host.start("sh", ["-c", "sleep 0.01 & echo $!; exec sleep 60"]);
    const [line] = (await once(zombie.stdout, "data")) as [Buffer];
    const child = await host.identify(Number(String(line)));
    if (child) await host.waitForExit(child, signal());
    expect(await host.identify(Number(String(line)))).toBeUndefined();
    process.kill(zombie.pid);
    await zombie.done.catch(() => {});
  });

  test("is waited for also when an earlier daemon started it, and waiting can be given up", async () => {
    const { stdout } = await host.run("sh", ["-c", "sleep 0.3 > /dev/null 2>&1 & echo $!"]);
    const orphan = await host.identify(Number(stdout));
    expect(orphan).toBeDefined();
    if (!orphan) return;
    await expect(host.waitForExit(orphan, AbortSignal.timeout(20))).rejects.toThrow();
    await host.waitForExit(orphan, signal());
    expect(await host.isAlive(orphan)).toBe(false);
  });

  test("that is not installed is an error", async () => {
    await expect(host.detach("no-such-program", [], { cwd: "/" })).rejects.toMatchObject({ reason: "not-found" });
  });

  test("does not write through a link", async () => {
    const folder = await scratchDirectory("link");
    await symlink(join(folder, "elsewhere"), join(folder, "out"));
    await expect(host.detach("true", [], { cwd: "/", outputPath: join(folder, "out") })).rejects.toThrow(/ELOOP/);
  });
});

describe("files", () => {
  test("are replaced whole, with mode and owner", async () => {
    const folder = await scratchDirectory("files");
    const path = join(folder, "f");
    await host.files.writeAtomic(path, "one");
    await host.files.writeAtomic(path, "two", { mode: 0o640, ...(isRoot ? { uid: 65534, gid: 65534 } : {}) });
    expect(await host.files.readText(path)).toBe("two");
    const facts = await stat(path);
    expect([facts.mode & 0o777, facts.uid]).toEqual([0o640, isRoot ? 65534 : process.getuid?.()]);
    expect(await host.files.list(folder)).toEqual(["f"]);
    await expect(host.files.readText(path, 2)).rejects.toThrow(/more than 2 bytes/);
  });

  test("that are not there are undefined, empty or gone", async () => {
    const missing = join(await scratchDirectory("none"), "a/b");
    expect(await host.files.readText(missing)).toBeUndefined();
    expect(await host.files.size(missing)).toBeUndefined();
    expect(await host.files.owner(missing)).toBeUndefined();
    expect(await host.files.list(missing)).toEqual([]);
    expect(await host.files.exists(missing)).toBe(false);
    await host.files.remove(missing);
  });

  test("of an untrusted folder are read only where they stand", async () => {
    const folder = await scratchDirectory("untrusted");
    const secret = join(await scratchDirectory("secret"), "s");
    await writeFile(secret, "secret");
    await mkdir(join(folder, "d"));
    await writeFile(join(folder, "d/plain"), "plain");
    await symlink(secret, join(folder, "d/link"));
    await symlink(join(secret, ".."), join(folder, "linked"));
    await host.run("ln", [secret, join(folder, "d/hard")]);
    await host.run("mkfifo", [join(folder, "d/fifo")]);
    const file = await host.files.openUntrusted(folder, "d/plain");
    expect(Buffer.from((await file?.read(2)) ?? []).toString()).toBe("ain");
    await file?.close();
    expect(await host.files.openUntrusted(folder, "d/none")).toBeUndefined();
    for (const name of ["d/link", "linked/s", "d/hard", "d/fifo", "d"]) {
      await expect(host.files.openUntrusted(folder, name), name).rejects.toThrow();
    }
  });

  test("are watched until told otherwise", async () => {
    const folder = await scratchDirectory("watch");
    const stop = new AbortController();
    const changes = host.files.watch(folder, stop.signal)[Symbol.asyncIterator]();
    const change = changes.next();
    await writeFile(join(folder, "f"), "");
    expect((await change).done).toBe(false);
    stop.abort();
    for (let next = await changes.next(); !next.done; next = await changes.next());
  });
});

test("tells which files are open, whatever they are called by now", async () => {
  const folder = await scratchDirectory("open");
  const ids = await Promise.all(
    ["mine", "other", "closed"].map(async (name) => {
      await writeFile(join(folder, name), name);
      return (await host.files.facts(join(folder, name)))?.id ?? "";
    }),
  );
  const [mine = "", other = "", closed = ""] = ids;
  const held = await host.files.openDescriptor(join(folder, "mine"));
  const inputFd = await host.files.openDescriptor(join(folder, "other"));
  const process = await host.detach("sleep", ["60"], { cwd: folder, inputFd });
  await host.files.rename(join(folder, "mine"), join(folder, "renamed"));
  await host.files.remove(join(folder, "other"));
  expect(await host.files.openAmong(new Set(ids))).toEqual(new Set([mine, other]));
  expect(await host.files.openAmong(new Set([closed]))).toEqual(new Set());
  await host.files.closeDescriptor(held);
  await host.signal(process, "SIGKILL");
  await host.waitForExit(process, signal());
  expect(await host.files.openAmong(new Set(ids))).toEqual(new Set());
});

describe("ports", () => {
  test("are found free or taken, by protocol and address", async () => {
    const free = await host.tryPort("tcp", "127.0.0.1", 0);
    expect(free).toBeGreaterThan(0);
    const server = createServer().listen(free, "127.0.0.1");
    await once(server, "listening");
    expect(await host.tryPort("tcp", "127.0.0.1", free ?? 0)).toBeUndefined();
    expect(await host.tryPort("udp", "127.0.0.1", free ?? 0)).toBe(free);
    expect(await host.tryPort("tcp", "127.0.0.2", free ?? 0)).toBe(free);
    server.close();
    await expect(host.tryPort("tcp", "192.0.2.123", 0)).rejects.toMatchObject({ code: "EADDRNOTAVAIL" });
  });
});

test("processes are known by their exact arguments", async () => {
  const sleeper = await host.detach("sleep", ["61", "0"], { cwd: "/" });
  const args = ["sleep", "61", "0"];
  const found = await host.processes((seen) => seen.join(" ") === args.join(" "));
  expect(found).toContainEqual({ identity: sleeper, uid: process.getuid?.(), args });
  expect(await host.uids()).toContain(process.getuid?.());
  await host.signal(sleeper, "SIGKILL");
});

test("the machine's facts are read", async () => {
  const facts = await host.facts();
  expect(facts.addresses).toContain("127.0.0.1");
  expect([facts.cpus, facts.memoryMib].every((amount) => amount > 0)).toBe(true);
  expect(await host.find("sh")).toMatch(/\/sh$/);
  expect(await host.find("no-such-program")).toBeUndefined();
});
