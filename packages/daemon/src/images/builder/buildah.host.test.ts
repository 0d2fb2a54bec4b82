import { chmod, chown, copyFile, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { writeTar } from "../../core/testing/tar-writer.ts";
import { localHost } from "../../host/local.ts";
import { createImages, type FindHere, type Images } from "../images.ts";
import { type FakeRegistry, startFakeRegistry } from "../testing/fake-registry.ts";
import { readBack } from "../testing/read-back.ts";
import { testWork } from "../testing/work.ts";

const host = localHost();
let registry: FakeRegistry;
let images: Images;
let dataDirectory: string;

beforeAll(async () => {
  registry = await startFakeRegistry();
  dataDirectory = await scratchDirectory("bld");
  images = await createImages({ host, dataDirectory, outbound: { allowHosts: [registry.host] } });
});
afterAll(async () => {
  await registry[Symbol.asyncDispose]();
});

async function context(files: Readonly<Record<string, string>>): Promise<string> {
  const folder = join(await scratchDirectory("ctx"), "context");
  await mkdir(folder, { mode: 0o700 });
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
  await copyFile("/bin/busybox", join(folder, "busybox"));
  return folder;
}

const nothingHere: FindHere = async () => undefined;

const build = async (
  directory: string,
  dockerfile = "Dockerfile",
  buildArgs = {},
  work = testWork(),
  findHere = nothingHere,
) => await images.build({ directory, dockerfile, buildArgs }, findHere, work);

describe("a build", () => {
  test("runs every kind of instruction without privilege, and honours .dockerignore and arguments", async () => {
    const directory = await context({
      "deploy/Dockerfile": [
        "FROM scratch AS tools",
        "COPY busybox /bin/sh",
        "FROM tools",
        "ARG GREETING=none",
        "COPY . /app",
        'RUN echo "$GREETING" > /greeting; /bin/sh -c "chown 1000:50 /greeting"; cat /proc/self/uid_map > /ids',
        "USER 1000:50",
        "WORKDIR /app",
        "EXPOSE 8080/tcp",
        'ENTRYPOINT ["/bin/sh"]',
        "STOPSIGNAL SIGQUIT",
      ].join("\n"),
      ".dockerignore": "secret\n",
      secret: "secret",
      kept: "kept",
    });
    const work = testWork();
    const image = await build(directory, "deploy/Dockerfile", { GREETING: "hello" }, work);
    expect(image.startConfig).toMatchObject({
      user: "1000:50",
      workingDir: "/app",
      exposedPorts: ["8080/tcp"],
      entrypoint: ["/bin/sh"],
      stopSignal: "SIGQUIT",
    });
    expect(work.lines.join("\n")).toMatch(/STEP 4\/\d+: RUN|STEP \d+\/\d+: RUN/);
    const { path } = await images.buildArtifact(image, work);
    const facts = await readBack(host, path, ["/greeting", "/app/kept", "/app/secret", "/bin/sh"]);
    expect(facts["/greeting"]).toMatchObject({ uid: 1000, gid: 50, size: 6 });
    expect(facts["/app/kept"]?.inode).toBeGreaterThan(0);
    expect(facts["/app/secret"]?.inode).toBe(0);
    expect((await host.run("debugfs", ["-R", "cat /greeting", path])).stdout).toBe("hello\n");
    // Root in the build is not root on the host.
    const [, outside] = (await host.run("debugfs", ["-R", "cat /ids", path])).stdout.trim().split(/\s+/);
    expect(Number(outside)).toBeGreaterThan(0);
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
  });

  test("builds upon an image of a registry, through the same guard", async () => {
    registry.addImage("team/base", "1", [writeTar([{ path: "from-base", content: "base", uid: 77, mode: 0o640 }])]);
    const directory = await context({
      Dockerfile: `FROM ${registry.host}/team/base:1\nCOPY added /added\n`,
      added: "added",
    });
    const image = await build(directory);
    const { path } = await images.buildArtifact(image, testWork());
    const facts = await readBack(host, path, ["/from-base", "/added"]);
    expect(facts["/from-base"]).toMatchObject({ uid: 77, mode: "0640" });
    expect(facts["/added"]).toMatchObject({ uid: 0, size: 5 });
  });

  test("builds upon an image that was built here, but for one whose layers are gone", async () => {
    const base = await build(
      await context({ Dockerfile: "FROM scratch\nCOPY --chown=7:8 kept /kept\n", kept: "kept" }),
    );
    const directory = await context({ Dockerfile: "FROM localhost/base:1\nCOPY added /added\n", added: "added" });
    const asked: string[] = [];
    const findHere: FindHere = async (reference) => {
      asked.push(reference);
      return base.contentDigest;
    };
    const { path } = await images.buildArtifact(
      await build(directory, "Dockerfile", {}, testWork(), findHere),
      testWork(),
    );
    const facts = await readBack(host, path, ["/kept", "/added"]);
    expect(facts["/kept"]).toMatchObject({ uid: 7, gid: 8 });
    expect(facts["/added"]).toMatchObject({ uid: 0, size: 5 });
    expect(asked).toEqual(["localhost/base:1"]);

    await images.collectBlobs(async () => []);
    const again = build(directory, "Dockerfile", {}, testWork(), findHere);
    await expect(again).rejects.toMatchObject({ code: "image_not_found" });
  });

  test("an image from an address that nobody listed is refused before anything runs", async () => {
    const directory = await context({ Dockerfile: "FROM 127.0.0.1:9/base\n" });
    await expect(build(directory)).rejects.toMatchObject({ code: "address_refused" });
  });

  test("a failing instruction is named with its line and last words", async () => {
    const directory = await context({
      Dockerfile: 'FROM scratch\nCOPY busybox /bin/sh\n\n# a comment\nRUN echo the reason; exit 3\nCMD ["x"]\n',
    });
    const work = testWork();
    const failure = build(directory, "Dockerfile", {}, work);
    await expect(failure).rejects.toMatchObject({ code: "build_failed" });
    await expect(failure).rejects.toThrow(/line 5, RUN echo the reason; exit 3: the reason/);
    expect(work.lines).toContain("the reason");
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
  });

  test("a missing file of the context is named with its line", async () => {
    const directory = await context({ Dockerfile: "FROM scratch\nCOPY nothing /nothing\n" });
    await expect(build(directory)).rejects.toThrow(/line 2, COPY nothing \/nothing: .*nothing/);
  });

  test("what lies behind a link out of the context stays out", async () => {
    const directory = await context({ Dockerfile: "FROM scratch\nCOPY out/hostname /stolen\n" });
    await symlink("/etc", join(directory, "out"));
    await expect(build(directory)).rejects.toMatchObject({ code: "build_failed" });
    await symlink("/etc/hostname", join(directory, "Linked"));
    await expect(build(directory, "Linked")).rejects.toMatchObject({ code: "invalid_request" });
    await expect(build(directory, "../../etc/hostname")).rejects.toMatchObject({ code: "invalid_request" });
    await expect(build(join(directory, "nothing"))).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("can be cancelled, and leaves nothing", async () => {
    const directory = await context({
      Dockerfile: "FROM scratch\nCOPY busybox /bin/sh\nRUN echo started; exec sleep 1000\n",
    });
    const stop = new AbortController();
    const work = testWork(stop.signal);
    const stopping = {
      ...work,
      log: (line: string) => (line === "started" ? stop.abort(new Error("stopped")) : undefined),
    };
    await expect(build(directory, "Dockerfile", {}, stopping)).rejects.toThrow();
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
  });

  const buildImage = join(import.meta.dirname, "../testing/build-image.ts");

  test("by an ordinary user with subordinate ids gives the same owners", async () => {
    const { uid } = await host.facts();
    const directory = await context({
      Dockerfile: "FROM scratch\nCOPY busybox /bin/sh\nRUN echo x > /x; /bin/sh -c 'chown 1000:50 /x'\n",
    });
    const folder = await scratchDirectory("usr");
    await chmod(directory, 0o755);
    await chmod(dirname(directory), 0o755);
    const [program = "", ...args] = uid === 0 ? ["unshare", "--mount", "--"] : ["env"];
    const idsFile = join(folder, "subordinate-ids");
    await writeFile(idsFile, "65534:100000:65536\n");
    const data = join(folder, "data");
    await mkdir(data);
    if (uid === 0) await chown(data, 65_534, 65_534);
    const how = uid === 0 ? ["--as", "65534", idsFile] : ["--build"];
    const { stdout } = await host.run(program, [...args, process.execPath, buildImage, ...how, data, directory]);
    const facts = await readBack(host, /artifact (.*)/.exec(stdout)?.[1] ?? "", ["/x", "/bin/sh"]);
    expect(facts["/x"]).toMatchObject({ uid: 1000, gid: 50 });
    expect(facts["/bin/sh"]).toMatchObject({ uid: 0, gid: 0 });
    expect(await readdir(join(data, "tmp"))).toEqual([]);
  });

  test("leaves no process when berthd is killed", async () => {
    const killed = await scratchDirectory("kil");
    const seconds = `${100_000 + Math.floor(Math.random() * 100_000)}`;
    const directory = await context({
      Dockerfile: `FROM scratch\nCOPY busybox /bin/sh\nRUN echo started; exec /bin/sh -c 'sleep ${seconds}'\n`,
    });
    const sleepers = async () => {
      const found: string[] = [];
      for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
        const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).replaceAll("\0", " ");
        if (words.includes(`sleep ${seconds}`)) found.push(pid);
      }
      return found;
    };
    const child = host.start(process.execPath, [buildImage, "--build", killed, directory]);
    const ended = child.done.catch(() => {});
    for await (const chunk of child.stdout) if (String(chunk).includes("started")) break;
    while ((await sleepers()).length === 0);
    process.kill(child.pid, "SIGKILL");
    await ended;
    while ((await sleepers()).length > 0);
    expect(await readdir(join(killed, "tmp"))).toHaveLength(1);
    const restarted = await createImages({ host, dataDirectory: killed, outbound: { allowHosts: [] } });
    await restarted.removeLeftovers();
    expect(await readdir(join(killed, "tmp"))).toEqual([]);
  });
});
