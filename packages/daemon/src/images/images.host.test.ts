import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { chown, copyFile, mkdir, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import type { BerthError } from "@berth/api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { type TarItem, writeTar } from "../core/testing/tar-writer.ts";
import { localHost } from "../host/local.ts";
import { createImages, type ImagesOptions } from "./images.ts";
import { digestOf, type FakeRegistry, startFakeRegistry } from "./testing/fake-registry.ts";
import { checkFileSystem, readBack } from "./testing/read-back.ts";
import { testWork } from "./testing/work.ts";

const host = localHost();
let registry: FakeRegistry;
beforeAll(async () => {
  registry = await startFakeRegistry();
});
afterAll(async () => {
  await registry[Symbol.asyncDispose]();
});

async function freshImages(options: Partial<ImagesOptions> = {}) {
  const dataDirectory = await scratchDirectory("img");
  const images = await createImages({
    host,
    dataDirectory,
    outbound: { allowHosts: [registry.host] },
    registry: { attempts: 2, pauseMs: 1 },
    ...options,
  });
  const pull = async (name: string, work = testWork()) => {
    const reference = `${registry.host}/${name}`;
    const image = await images.resolve(reference, work);
    await images.fetchBlobs(image, reference, work);
    return { image, artifact: await images.buildArtifact(image, work) };
  };
  return { images, dataDirectory, pull };
}

const sumOf = async (path: string) =>
  createHash("sha256")
    .update(await readFile(path))
    .digest("hex");

const capability = Buffer.from([1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
/** Version 2: u::rw-, u:1000:rwx, g::r--, m::rwx, o::---. */
const accessList = Buffer.from([
  ...[2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 7, 0, 0xe8, 3, 0, 0],
  ...[4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
]);
const sparse = Buffer.alloc(3 * 1024 * 1024);
sparse.write("begin", 0);
sparse.write("end", sparse.length - 3);

const lower: TarItem[] = [
  { path: "./", type: "5", mode: 0o755, mtime: 1_600_000_000 },
  { path: "bin/", type: "5", mode: 0o755 },
  { path: "bin/su", content: "su", mode: 0o4755, mtime: 1_700_000_000 },
  { path: "bin/ping", content: "ping", mode: 0o755, pax: { "SCHILY.xattr.security.capability": capability } },
  { path: "bin/su-too", type: "1", target: "bin/su" },
  { path: "home/", type: "5", mode: 0o2750, uid: 70_000, gid: 905_696 },
  { path: "home/late", pax: { mtime: "4294967296.123456789" } },
  { path: "home/early", pax: { mtime: "-1.5" } },
  { path: "home/acl", pax: { "SCHILY.xattr.system.posix_acl_access": accessList } },
  {
    path: "home/many",
    pax: { "SCHILY.xattr.user.big": "v".repeat(1000), "SCHILY.xattr.trusted.t": "1", "SCHILY.xattr.user.empty": "" },
  },
  { path: "home/sparse", content: sparse },
  { path: "home/pipe", type: "6", mode: 0o600 },
  { path: "short", type: "2", target: "../../outside/is/fine" },
  { path: "long", type: "2", target: "x", pax: { linkpath: `/${"long/".repeat(40)}end` } },
  { path: "opaque/", type: "5", mode: 0o700 },
  { path: "opaque/hidden", content: "hidden" },
  { path: "gone", content: "gone" },
  { path: 'odd "name"', content: "quotes" },
  { path: "odd\nname", content: "newline" },
  { path: "odd\xff\xfename", content: "not utf-8" },
  { path: "null", type: "3" },
];
const upper: TarItem[] = [
  { path: ".wh.gone" },
  { path: "opaque/", type: "5", mode: 0o711, uid: 5 },
  { path: "opaque/.wh..wh..opq" },
  { path: "opaque/seen", content: "seen" },
  ...Array.from({ length: 700 }, (_unused, index) => ({
    path: `many/file-with-a-rather-long-name-${index}`,
    content: String(index),
  })),
];

describe("a file system", () => {
  test("is exact, sound and growable, and the same for root and an ordinary user", async () => {
    registry.addImage("exact", "latest", [gzipSync(writeTar(lower)), zstdCompressSync(writeTar(upper))], {
      diffIds: [digestOf(writeTar(lower)), digestOf(writeTar(upper))],
    });
    const { pull, dataDirectory } = await freshImages();
    const work = testWork();
    const { artifact } = await pull("exact", work);
    expect(work.lines.join()).toMatch(/Left out 1 device node/);
    await checkFileSystem(host, artifact.path);
    const { mode, size, blocks } = await stat(artifact.path);
    expect(mode & 0o777).toBe(0o644);
    // As large as the usual disk, so that it need not be grown; most of it is a hole.
    expect(size).toBe(1024 * 2 ** 20);
    expect(blocks * 512).toBeLessThan(32 * 2 ** 20);

    const facts = await readBack(host, artifact.path, [
      ...[
        "/",
        "/bin/su",
        "/bin/su-too",
        "/bin/ping",
        "/home",
        "/home/late",
        "/home/early",
        "/home/acl",
        "/home/many",
        "/home/sparse",
      ],
      ...[
        "/home/pipe",
        "/short",
        "/long",
        "/opaque",
        "/opaque/hidden",
        "/opaque/seen",
        "/gone",
        '/odd "name"',
        "/null",
        "/many",
      ],
    ]);
    expect(facts["/"]).toMatchObject({ mode: "0755", mtime: "5f5e1000:00000000", inode: 2 });
    const mountedOver = await readBack(host, artifact.path, ["/proc", "/run/berth", "/etc/hosts"]);
    expect(mountedOver["/proc"]).toMatchObject({ type: "directory", mode: "0755", uid: 0 });
    expect(mountedOver["/run/berth"]).toMatchObject({ type: "directory", mode: "0755", uid: 0 });
    expect(mountedOver["/etc/hosts"]).toMatchObject({ type: "regular", mode: "0644", size: 0, links: 1 });
    expect(facts["/bin/su"]).toMatchObject({
      type: "regular",
      mode: "04755",
      links: 2,
      size: 2,
      mtime: "6553f100:00000000",
    });
    expect(facts["/bin/su-too"]?.inode).toBe(facts["/bin/su"]?.inode);
    expect(facts["/bin/ping"]?.xattrs).toEqual({
      "security.capability": [...capability].map((byte) => byte.toString(16).padStart(2, "0")).join(" "),
    });
    expect(facts["/home"]).toMatchObject({ type: "directory", mode: "02750", uid: 70_000, gid: 905_696 });
    // 2^32 seconds: the epoch bits say 1, above them 123,456,789 ns; -1.5 s is -2 s and half a second.
    expect(facts["/home/late"]?.mtime).toBe(`00000000:${((123_456_789 << 2) | 1).toString(16).padStart(8, "0")}`);
    expect(facts["/home/early"]?.mtime).toBe(`fffffffe:${(500_000_000 * 4).toString(16).padStart(8, "0")}`);
    expect(Object.keys(facts["/home/acl"]?.xattrs ?? {})).toEqual(["system.posix_acl_access"]);
    expect(facts["/home/many"]?.xattrs).toMatchObject({ "user.empty": "" });
    expect(Object.keys(facts["/home/many"]?.xattrs ?? {}).sort()).toEqual(["trusted.t", "user.big", "user.empty"]);
    expect(facts["/home/sparse"]).toMatchObject({ size: sparse.length });
    expect(facts["/home/sparse"]?.blocks).toBeLessThanOrEqual(16);
    expect(facts["/home/pipe"]).toMatchObject({ type: "FIFO", mode: "0600" });
    expect(facts["/short"]).toMatchObject({ type: "symlink", target: "../../outside/is/fine" });
    expect(facts["/long"]).toMatchObject({ type: "symlink", size: 204 });
    expect(facts["/opaque"]).toMatchObject({ mode: "0711", uid: 5 });
    expect(facts["/opaque/seen"]?.inode).toBeGreaterThan(0);
    expect(facts['/odd "name"']).toMatchObject({ size: 6 });
    for (const hidden of ["/opaque/hidden", "/gone", "/null"]) expect(facts[hidden]?.inode).toBe(0);

    const dump = join(dataDirectory, "dump");
    await mkdir(dump);
    await host.run("debugfs", ["-R", `rdump / ${dump}`, artifact.path]);
    expect(await readFile(join(dump, "home/sparse"))).toEqual(sparse);
    expect(await readFile(join(dump, "odd\nname"), "utf8")).toBe("newline");
    const names = (await readdir(dump, { encoding: "latin1" })) as string[];
    expect(names).toContain("odd\xff\xfename");
    expect(await readdir(join(dump, "many"))).toHaveLength(700);
    expect(await readFile(join(dump, "many/file-with-a-rather-long-name-699"), "utf8")).toBe("699");

    const grown = join(dataDirectory, "grown.ext4");
    await copyFile(artifact.path, grown);
    await truncate(grown, 64 * 2 ** 30);
    await host.run("resize2fs", [grown]);
    await checkFileSystem(host, grown);

    const other = await scratchDirectory("usr");
    const { uid } = await host.facts();
    const asNobody = uid === 0 ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : ["env"];
    if (uid === 0) await chown(other, 65_534, 65_534);
    const [program = "", ...args] = [
      ...asNobody,
      process.execPath,
      join(import.meta.dirname, "testing/build-artifact.ts"),
    ];
    const { stdout } = await host.run(program, [...args, other, registry.host, `${registry.host}/exact`]);
    expect(await sumOf(stdout)).toBe(await sumOf(artifact.path));
  });

  test("shares the layers of an earlier one, and is the same as without", async () => {
    const shared = gzipSync(writeTar(lower));
    const second = {
      layers: [shared, writeTar(upper)],
      diffIds: [digestOf(writeTar(lower)), digestOf(writeTar(upper))],
    };
    registry.addImage("first", "latest", [shared], { diffIds: [digestOf(writeTar(lower))] });
    registry.addImage("second", "latest", second.layers, { diffIds: second.diffIds });
    const together = await freshImages();
    await together.pull("first");
    registry.requests.length = 0;
    const { artifact } = await together.pull("second");
    expect(registry.requests.filter((request) => request.includes(digestOf(shared)))).toEqual([]);
    const alone = await (await freshImages()).pull("second");
    expect(await sumOf(artifact.path)).toBe(await sumOf(alone.artifact.path));
  });

  test.each<[string, (path: string) => Promise<void>]>([
    ["nothing", (path) => truncate(path, 0)],
    ["zeros", async (path) => await writeFile(path, Buffer.alloc((await stat(path)).size))],
  ])("a kept layer of which a power loss left %s is unpacked again, and kept again", async (_what, damage) => {
    const layer = writeTar(lower);
    registry.addImage("kept", "latest", [gzipSync(layer)], { diffIds: [digestOf(layer)] });
    const { images, pull, dataDirectory } = await freshImages();
    const { image, artifact } = await pull("kept");
    const before = await sumOf(artifact.path);
    const kept = join(dataDirectory, `layers/${digestOf(layer).slice("sha256:".length)}.tar`);
    await damage(kept);
    await images.removeArtifact(image.contentDigest);
    const again = await images.buildArtifact(image, testWork());
    expect(await sumOf(again.path)).toBe(before);
    expect(await readFile(kept)).toEqual(layer);
    expect((await stat(kept)).nlink).toBe(1);
  });
});

describe("blobs that were damaged on the disk", () => {
  /** Changes one byte of a blob, and forgets all that was made of it. */
  async function damaged() {
    const layer = writeTar(lower);
    const blob = gzipSync(layer);
    registry.addImage("worn", "latest", [blob], { diffIds: [digestOf(layer)] });
    const fresh = await freshImages();
    const { images, dataDirectory, pull } = fresh;
    const { image, artifact } = await pull("worn");
    const before = await sumOf(artifact.path);
    await images.removeArtifact(image.contentDigest);
    await rm(join(dataDirectory, "layers"), { recursive: true });
    const pathOf = (digest: string) => join(dataDirectory, "blobs/sha256", digest.slice("sha256:".length));
    const damage = async (digest: string) => {
      const bytes = await readFile(pathOf(digest));
      bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
      await writeFile(pathOf(digest), bytes);
    };
    return { ...fresh, image, before, damage, blob, pathOf };
  }

  test("are fetched again where the image came from", async () => {
    const { images, image, before, damage, blob, pathOf } = await damaged();
    const reference = `${registry.host}/worn`;
    await damage(digestOf(blob));
    await images.fetchBlobs(image, reference, testWork());
    const work = testWork();
    const artifact = await images.buildArtifact(image, work, reference);
    expect(work.lines.join()).toContain(`damaged ${digestOf(blob)}; fetching again`);
    expect(await sumOf(artifact.path)).toBe(before);
    expect(await readFile(pathOf(digestOf(blob)))).toEqual(blob);
  });

  test("are named as lost, not as the image's fault, when they came from nowhere", async () => {
    const { images, image, damage, blob, pathOf, dataDirectory } = await damaged();
    await damage(digestOf(blob));
    for (let time = 0; time < 2; time += 1) {
      const failure = images.buildArtifact(image, testWork());
      await expect(failure).rejects.toMatchObject({ code: "image_not_found" });
      await expect(failure).rejects.toThrow(/This node's disk .*; build the image again/);
    }
    expect(await host.files.exists(pathOf(digestOf(blob)))).toBe(false);
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
  });

  test("are made good by a pull when they say what the image is", async () => {
    const { images, image, damage, pull } = await damaged();
    for (const { digest } of [image.manifest, image.config]) {
      await damage(digest);
      await expect(images.describe(image.contentDigest)).rejects.toThrow(/damaged on this node's disk; pull or build/);
      expect((await pull("worn")).image).toEqual(image);
      expect(await images.describe(image.contentDigest)).toEqual(image);
    }
  });
});

describe("work that several ask for", () => {
  test("is done once, and stays when one leaves", async () => {
    const bytes = writeTar([{ path: "f", content: "x".repeat(100_000) }]);
    const digest = digestOf(bytes);
    registry.addImage("shared", "latest", [bytes]);
    const { images, dataDirectory } = await freshImages();
    const reference = `${registry.host}/shared`;
    const image = await images.resolve(reference, testWork());
    registry.requests.length = 0;
    const leaving = new AbortController();
    const left = images.fetchBlobs(image, reference, testWork(leaving.signal));
    const others = [1, 2, 3].map(() => images.fetchBlobs(image, reference, testWork()));
    leaving.abort(new Error("left"));
    await expect(left).rejects.toThrow("left");
    await Promise.all(others);
    expect(registry.requests.filter((request) => request.includes(digest))).toHaveLength(1);
    const builds = await Promise.all([1, 2, 3].map(() => images.buildArtifact(image, testWork())));
    expect(new Set(builds.map(({ path }) => path)).size).toBe(1);
    expect(await readdir(join(dataDirectory, "artifacts"))).toHaveLength(2);
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
  });

  test("ends when all have left, and leaves nothing", async () => {
    registry.addImage("slow", "latest", [writeTar([{ path: "f", content: "x".repeat(100_000) }])]);
    const { images, dataDirectory } = await freshImages();
    const reference = `${registry.host}/slow`;
    const image = await images.resolve(reference, testWork());
    const stop = new AbortController();
    registry.intercept = (request, response) => {
      if (!request.url?.includes("/blobs/")) return false;
      response.writeHead(200);
      response.write("x");
      stop.abort(new Error("stopped"));
      return true;
    };
    await expect(images.fetchBlobs(image, reference, testWork(stop.signal))).rejects.toThrow("stopped");
    registry.intercept = () => false;
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
    await images.fetchBlobs(image, reference, testWork());
    const alreadyStopped = AbortSignal.abort(new Error("stopped"));
    await expect(images.buildArtifact(image, testWork(alreadyStopped))).rejects.toThrow("stopped");
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
    expect(await images.findArtifact(image.contentDigest)).toBeUndefined();
    const artifact = await images.buildArtifact(image, testWork());
    expect(await images.findArtifact(image.contentDigest)).toEqual(artifact);
    await images.removeArtifact(image.contentDigest);
    await images.removeArtifact(image.contentDigest);
    expect(await images.listArtifacts()).toEqual([]);
    expect(await images.collectBlobs(async () => [image])).toBe(0);
    expect(await images.collectBlobs(async () => undefined)).toBe(0);
    expect(await images.collectBlobs(async () => [])).toBeGreaterThan(100_000);
  });
});

describe("blobs that nobody needs", () => {
  test("are not told to be there to who begins to use them as they are removed; who began before keeps them", async () => {
    const layer = writeTar([{ path: "f", content: "x".repeat(100_000) }]);
    registry.addImage("begun", "latest", [layer]);
    const { images, dataDirectory } = await freshImages();
    const reference = `${registry.host}/begun`;
    const image = await images.resolve(reference, testWork());
    await images.fetchBlobs(image, reference, testWork());
    const there = async () => (await readdir(join(dataDirectory, "blobs/sha256"))).includes(digestOf(layer).slice(7));

    let begun: Promise<void> | undefined;
    const freed = await images.collectBlobs(async () => {
      begun = images.fetchBlobs(image, reference, testWork());
      // All that it could do without waiting for us is done.
      for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      return [];
    });
    expect(freed).toBeGreaterThan(100_000);
    await begun;
    expect(await there()).toBe(true);

    // One collection after the other, and one that fails holds up nobody.
    const both = [
      images.collectBlobs(() => Promise.reject(new Error("lost"))),
      images.collectBlobs(async () => [image]),
    ];
    expect(await Promise.allSettled(both)).toMatchObject([{ status: "rejected" }, { value: 0 }]);
    await images.fetchBlobs(image, reference, testWork());
    expect(await there()).toBe(true);
  });
});

describe("a registry that misbehaves", () => {
  test("promises a layer, or layers, larger than may be: nothing of it is fetched; a larger limit lets it through", async () => {
    const layers = [writeTar([{ path: "f", content: "x".repeat(50_000) }]), writeTar([{ path: "g", content: "y" }])];
    registry.addImage("large", "latest", layers);
    for (const limits of [{ maxLayerBytes: 50_000 }, { maxBytes: 50_000 }]) {
      const { pull, dataDirectory } = await freshImages({ limits });
      registry.requests.length = 0;
      const failure = pull("large");
      await expect(failure).rejects.toMatchObject({ code: "unsafe_image" });
      await expect(failure).rejects.toThrow(/by its manifest; at most 50000 are fetched/);
      expect(registry.requests.filter((request) => request.includes("/blobs/"))).toEqual([]);
      expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
    }
    await (await freshImages({ limits: { maxLayerBytes: 60_000 } })).pull("large");
  });

  test("is taken up again where it broke", async () => {
    const bytes = writeTar([{ path: "f", content: "y".repeat(300_000) }]);
    registry.addImage("broken", "latest", [bytes]);
    const digest = digestOf(bytes);
    let cuts = 0;
    registry.intercept = (request, response) => {
      if (!request.url?.endsWith(digest) || cuts === 2) return false;
      cuts += 1;
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
      response.writeHead(start > 0 ? 206 : 200, { "content-length": bytes.length - start });
      response.write(bytes.subarray(start, start + 100_000), () => response.destroy());
      return true;
    };
    const { pull } = await freshImages();
    registry.requests.length = 0;
    await pull("broken");
    registry.intercept = () => false;
    expect(
      registry.requests.filter((request) => request.includes(digest)).map((request) => request.split(" ")[2]),
    ).toEqual([undefined, expect.stringMatching(/^bytes=[1-9]\d*-$/), expect.stringMatching(/^bytes=[1-9]\d*-$/)]);
  });

  test("dies halfway for good: said so, nothing left", async () => {
    registry.addImage("dying", "latest", [writeTar([{ path: "f", content: "z".repeat(300_000) }])]);
    registry.intercept = (request, response) => {
      if (!request.url?.includes("/blobs/")) return false;
      response.destroy();
      return true;
    };
    const { pull, dataDirectory } = await freshImages();
    await expect(pull("dying")).rejects.toMatchObject({ code: "registry_unreachable" });
    registry.intercept = () => false;
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
  });

  test("has all layers but one: nothing of them is left when that is said", async () => {
    const layers = ["a", "b", "c"].map((path) => writeTar([{ path, content: "x".repeat(50_000) }]));
    registry.addImage("lacking", "latest", layers);
    const { images, dataDirectory } = await freshImages();
    const reference = `${registry.host}/lacking`;
    const image = await images.resolve(reference, testWork());
    const waiting: ServerResponse[] = [];
    registry.intercept = (request, response) => {
      if (!request.url?.includes("/blobs/")) return false;
      waiting.push(response);
      if (waiting.length < layers.length) return true;
      const [first, second, third] = waiting;
      for (const halfway of [first, second]) halfway?.writeHead(200).write("x");
      third?.writeHead(404).end();
      return true;
    };
    const left = images.fetchBlobs(image, reference, testWork()).catch((error: BerthError) => {
      return { code: error.code, halves: readdirSync(join(dataDirectory, "tmp")) };
    });
    expect(await left).toEqual({ code: "image_not_found", halves: [] });
    registry.intercept = () => false;
  });

  test("lies about a layer: refused, nothing kept", async () => {
    const bytes = writeTar([{ path: "f", content: "true" }]);
    registry.addImage("lying", "latest", [bytes]);
    registry.blobs.set(digestOf(bytes), writeTar([{ path: "f", content: "lies" }]));
    const { pull, dataDirectory } = await freshImages();
    await expect(pull("lying")).rejects.toMatchObject({ code: "digest_mismatch" });
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
    expect(await readdir(join(dataDirectory, "blobs/sha256"))).not.toContain(digestOf(bytes).slice(7));
  });

  test("lies about a manifest asked for by digest", async () => {
    const digest = registry.addImage("lied", "latest", [writeTar([])]);
    registry.manifests.set(`lied/${digest}`, Buffer.from(`${registry.manifests.get(`lied/${digest}`)} `));
    const { pull } = await freshImages();
    await expect(pull(`lied@${digest}`)).rejects.toMatchObject({ code: "digest_mismatch" });
  });

  test("an unpacked layer that is not what the configuration promises", async () => {
    registry.addImage("other", "latest", [gzipSync(writeTar([{ path: "f" }]))], { diffIds: [digestOf("else")] });
    const { pull, dataDirectory } = await freshImages();
    await expect(pull("other")).rejects.toMatchObject({ code: "digest_mismatch" });
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
    expect(await readdir(join(dataDirectory, "artifacts"))).toEqual([]);
  });

  test.each([
    ["an unknown tag", "nowhere:none", "image_not_found"],
    ["an unknown image", "nowhere/at/all", "image_not_found"],
  ])("%s", async (_what, name, code) => {
    const { pull } = await freshImages();
    await expect(pull(name)).rejects.toMatchObject({ code });
  });

  test("no registry there", async () => {
    const { images } = await freshImages({ outbound: { allowHosts: ["127.0.0.1:9"] } });
    await expect(images.resolve("127.0.0.1:9/x", testWork())).rejects.toMatchObject({ code: "registry_unreachable" });
  });

  test("another architecture only", async () => {
    registry.addImage("foreign", "latest", [writeTar([])], { architecture: "s390x" });
    const { pull } = await freshImages();
    await expect(pull("foreign")).rejects.toMatchObject({ code: "unsupported_image" });
  });

  test("redirects to an address that may not be fetched from; without the guard it is followed", async () => {
    await using elsewhere = await startFakeRegistry();
    const bytes = writeTar([{ path: "f", content: "moved" }]);
    registry.addImage("moved", "latest", [bytes]);
    elsewhere.blobs.set(digestOf(bytes), bytes);
    registry.intercept = (request, response) => {
      if (!request.url?.endsWith(digestOf(bytes))) return false;
      response.writeHead(307, { location: `http://${elsewhere.host}${request.url}` }).end();
      return true;
    };
    const guarded = await freshImages();
    await expect(guarded.pull("moved")).rejects.toMatchObject({ code: "address_refused" });
    expect(elsewhere.requests).toEqual([]);
    const open = await freshImages({ outbound: { allowHosts: [registry.host], unguarded: true } });
    await open.pull("moved");
    registry.intercept = () => false;
    expect(elsewhere.requests).toHaveLength(1);
  });

  test("loopback that nobody listed is not even asked", async () => {
    const { images } = await freshImages({ outbound: { allowHosts: [] } });
    registry.requests.length = 0;
    await expect(images.resolve(`${registry.host}/exact`, testWork())).rejects.toMatchObject({
      code: "address_refused",
    });
    expect(registry.requests).toEqual([]);
  });
});

describe("hostile layers", () => {
  test.each<[string, Buffer, RegExp]>([
    ["..", writeTar([{ path: "../../etc/cron.d/x" }]), /climbs out/],
    ["an absolute path", writeTar([{ path: "/etc/cron.d/x" }]), /absolute/],
    ["a way out over a link", writeTar([{ path: "l", type: "2", target: "../.." }, { path: "l/x" }]), /leads out/],
  ])("%s", async (_what, bytes, words) => {
    registry.addImage("hostile", "latest", [bytes]);
    const { pull, dataDirectory } = await freshImages();
    const failure = pull("hostile");
    await expect(failure).rejects.toMatchObject({ code: "unsafe_image" });
    await expect(failure).rejects.toThrow(words);
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
  });

  test("a bomb ends at its ratio; a larger limit lets it through", async () => {
    const plain = writeTar([{ path: "zeros", content: Buffer.alloc(8 * 1024 * 1024) }]);
    registry.addImage("bomb", "latest", [gzipSync(plain)], { diffIds: [digestOf(plain)] });
    const bounds = { maxRatio: 100, ratioFromBytes: 1024 * 1024 };
    const { pull, dataDirectory } = await freshImages({ limits: bounds });
    await expect(pull("bomb")).rejects.toMatchObject({ code: "unsafe_image" });
    expect(await readdir(join(dataDirectory, "tmp"))).toEqual([]);
    await (await freshImages({ limits: { ...bounds, maxRatio: 2000 } })).pull("bomb");
  });

  test("a layer that no tool can unpack", async () => {
    const damaged = gzipSync(writeTar([{ path: "f" }])).fill(7, 20);
    registry.addImage("damaged", "latest", [damaged]);
    await expect((await freshImages()).pull("damaged")).rejects.toMatchObject({ code: "unsafe_image" });
  });
});
