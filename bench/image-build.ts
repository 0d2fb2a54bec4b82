import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { Host } from "../packages/daemon/src/host/host.ts";
import { localHost } from "../packages/daemon/src/host/local.ts";
import { createImages } from "../packages/daemon/src/images/images.ts";
import { startDockerRegistry } from "../packages/daemon/src/images/testing/docker-registry.ts";
import { testWork } from "../packages/daemon/src/images/testing/work.ts";
import type { Benchmark } from "./support/benchmark.ts";
import { judge, median, ratio } from "./support/statistics.ts";

const firstLimit = 1.3;
const secondLimit = 0.5;
const rounds = 15;
/** What the layers are made of: files that every Debian has, large and small. */
const shared = ["usr/bin", "usr/lib/git-core", "usr/share/doc", "usr/share/perl", "usr/share/zoneinfo"];
const tops = ["etc/default", "etc/init.d"];

export default {
  name: "Registry image to bootable disk",
  method: `An image of two gzip layers (${shared.join(", ")} of this machine; a small one) from docker-registry on loopback, into an empty data folder; then one that shares the large layer. Against \`skopeo copy\`, \`umoci unpack\` and \`mke2fs -d\` for the same image, in turn, ${rounds} times.`,
  async run({ scratch, freePort, times, say }) {
    const host = localHost();
    await using registry = await startDockerRegistry(host, join(scratch, "registry"), await freePort());
    say("making two images");
    const base = await makeLayer(host, join(scratch, "layers"), shared);
    for (const [index, top] of tops.entries()) {
      const layers = [base, await makeLayer(host, join(scratch, "layers"), [top])];
      await pushImage(host, join(scratch, "layout"), layers, `${registry.host}/bench:${index}`);
    }

    const theirs = async () => {
      const folder = join(scratch, "theirs");
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder);
      const { uid } = await host.facts();
      const options = { timeoutMs: 10 * 60_000, cwd: folder, env: { HOME: folder } };
      return await timed(async () => {
        const source = `docker://${registry.host}/bench:0`;
        await host.run("skopeo", ["copy", "--quiet", "--src-tls-verify=false", source, "oci:oci:bench"], options);
        const rootless = uid === 0 ? [] : ["--rootless"];
        await host.run("umoci", ["unpack", ...rootless, "--image", "oci:bench", "bundle"], options);
        await host.run("mke2fs", ["-q", "-t", "ext4", "-d", "bundle/rootfs", "disk.ext4", "2G"], options);
      });
    };
    const folder = join(scratch, "ours");
    const ours = async (tag: number) => {
      const images = await createImages({ host, dataDirectory: folder, outbound: { allowHosts: [registry.host] } });
      const reference = `${registry.host}/bench:${tag}`;
      const work = testWork();
      return await timed(async () => {
        const image = await images.resolve(reference, work);
        await images.fetchBlobs(image, reference, work);
        await images.buildArtifact(image, work);
      });
    };

    const first: [number, number][] = [];
    const second: [number, number][] = [];
    for (let round = 0; round < times(rounds); round += 1) {
      say(`round ${round + 1} of ${times(rounds)}`);
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder);
      // Whoever goes first changes sides, so that neither always meets the warmer machine.
      const before = round % 2 === 0 ? await theirs() : undefined;
      const one = await ours(0);
      const two = await ours(1);
      const other = before ?? (await theirs());
      first.push([one, other]);
      second.push([two, other]);
    }
    const seconds = (values: readonly number[]) => `${(median(values) / 1000).toFixed(1)} s`;
    const details = [
      `${seconds(first.map(([one]) => one))} for the first image, ${seconds(second.map(([two]) => two))} for the second, ${seconds(first.map(([, other]) => other))} for skopeo, umoci and mke2fs.`,
    ];
    const [firstEstimate, secondEstimate] = [ratio(first), ratio(second)];
    return [
      {
        promise: "Registry image to bootable disk, against skopeo, umoci and mke2fs",
        estimate: firstEstimate,
        limit: firstLimit,
        unit: "x",
        verdict: judge(firstEstimate, firstLimit),
        details,
      },
      {
        promise: "A second image that shares its layers, against the same",
        estimate: secondEstimate,
        limit: secondLimit,
        unit: "x",
        verdict: judge(secondEstimate, secondLimit),
        details,
      },
    ];
  },
} satisfies Benchmark;

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

interface Layer {
  readonly path: string;
  readonly digest: string;
  readonly diffId: string;
  readonly size: number;
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return `sha256:${hash.digest("hex")}`;
}

async function makeLayer(host: Host, folder: string, paths: readonly string[]): Promise<Layer> {
  await mkdir(folder, { recursive: true });
  const plain = join(folder, "plain.tar");
  await host.run("tar", ["--create", "--file", plain, "--numeric-owner", "-C", "/", ...paths], {
    timeoutMs: 10 * 60_000,
  });
  const packed = `${plain}.gz`;
  await pipeline(createReadStream(plain), createGzip(), createWriteStream(packed));
  const digest = await digestOf(packed);
  const path = join(folder, digest.slice(7));
  await rename(packed, path);
  return { path, digest, diffId: await digestOf(plain), size: (await stat(path)).size };
}

/** Writes the `dir:` form of an image and has skopeo push it. */
async function pushImage(host: Host, folder: string, layers: readonly Layer[], target: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  const { architecture } = await host.facts();
  const diffIds = layers.map(({ diffId }) => diffId);
  const config = JSON.stringify({
    os: "linux",
    architecture,
    config: {},
    rootfs: { type: "layers", diff_ids: diffIds },
  });
  const configDigest = `sha256:${createHash("sha256").update(config).digest("hex")}`;
  const docker = "application/vnd.docker";
  const manifest = {
    schemaVersion: 2,
    mediaType: `${docker}.distribution.manifest.v2+json`,
    config: { mediaType: `${docker}.container.image.v1+json`, size: config.length, digest: configDigest },
    layers: layers.map(({ digest, size }) => ({ mediaType: `${docker}.image.rootfs.diff.tar.gzip`, size, digest })),
  };
  await writeFile(join(folder, "version"), "Directory Transport Version: 1.1\n");
  await writeFile(join(folder, "manifest.json"), JSON.stringify(manifest));
  await writeFile(join(folder, configDigest.slice(7)), config);
  for (const { path, digest } of layers)
    await pipeline(createReadStream(path), createWriteStream(join(folder, digest.slice(7))));
  const policy = join(folder, "policy.json");
  await writeFile(policy, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  await host.run(
    "skopeo",
    ["--policy", policy, "copy", "--quiet", "--dest-tls-verify=false", `dir:${folder}`, `docker://${target}`],
    {
      timeoutMs: 10 * 60_000,
    },
  );
}
