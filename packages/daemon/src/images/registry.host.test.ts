import { chmod, chown, lutimes, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../../../test/support/ports.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { createImages } from "./images.ts";
import { buildahIn } from "./testing/buildah.ts";
import { type DockerRegistry, startDockerRegistry } from "./testing/docker-registry.ts";
import { checkFileSystem, readBack } from "./testing/read-back.ts";
import { testWork } from "./testing/work.ts";

const host = localHost();
let registry: DockerRegistry;
let tree: string;

beforeAll(async () => {
  const folder = await scratchDirectory("reg");
  registry = await startDockerRegistry(host, join(folder, "registry"), await freePort());
  tree = join(folder, "tree");
  await mkdir(join(tree, "bin"), { recursive: true });
  await writeFile(join(tree, "bin/tool"), "tool");
  await chown(join(tree, "bin/tool"), 12, 34);
  await chmod(join(tree, "bin/tool"), 0o4751);
  await symlink("tool", join(tree, "bin/link"));
  await lutimes(join(tree, "bin/link"), 1_500_000_000, 1_500_000_000);
  await host.run("setcap", ["cap_net_raw+ep", join(tree, "bin/tool")]);
  await host.run("setfattr", ["-n", "user.note", "-v", "kept", join(tree, "bin/tool")]);

  const buildah = buildahIn(host, join(folder, "buildah"));
  const base = await buildah.run("from", "scratch");
  // Into its mounted storage: `buildah add` would give all to root.
  await host.run("cp", ["--archive", "--no-target-directory", "--", tree, await buildah.run("mount", base)]);
  await buildah.run("config", "--cmd", "/bin/tool", "--env", "A=b", "--port", "80", "--stop-signal", "SIGINT", base);
  await buildah.run("commit", "--quiet", base, "base");
  const derived = await buildah.run("from", "--pull-never", "localhost/base");
  await writeFile(join(folder, "extra"), "extra");
  await buildah.run("add", derived, join(folder, "extra"), "/extra");
  await buildah.run("commit", "--quiet", derived, "derived");
  const push = async (source: string, target: string, ...options: readonly string[]) =>
    await host.run("skopeo", [
      "copy",
      "--quiet",
      "--dest-tls-verify=false",
      ...options,
      source,
      `docker://${registry.host}/${target}`,
    ]);
  await push(buildah.stored("localhost/base"), "team/app:oci", "--format", "oci");
  await push(buildah.stored("localhost/base"), "team/app:docker", "--format", "v2s2");
  await push(buildah.stored("localhost/base"), "team/app:zstd", "--format", "oci", "--dest-compress-format", "zstd");
  await push(buildah.stored("localhost/derived"), "team/app:derived", "--format", "oci");
  const { architecture } = await host.facts();
  const other = architecture === "amd64" ? "arm64" : "amd64";
  const foreign = await buildah.run("from", "--arch", other, "scratch");
  await buildah.run("config", "--arch", other, "--label", "which=foreign", foreign);
  await buildah.run("commit", "--quiet", foreign, "foreign");
  await buildah.run("manifest", "create", "list");
  await buildah.run("manifest", "add", "list", buildah.stored("localhost/foreign"));
  await buildah.run("manifest", "add", "list", buildah.stored("localhost/base"));
  await buildah.run(
    "manifest",
    "push",
    "--quiet",
    "--all",
    "--tls-verify=false",
    "list",
    `docker://${registry.host}/team/app:list`,
  );
  await buildah.run("manifest", "create", "foreign-only");
  await buildah.run("manifest", "add", "foreign-only", buildah.stored("localhost/foreign"));
  await buildah.run(
    "manifest",
    "push",
    "--quiet",
    "--all",
    "--tls-verify=false",
    "foreign-only",
    `docker://${registry.host}/team/app:foreign-only`,
  );
});

afterAll(async () => {
  await registry?.[Symbol.asyncDispose]();
});

const work = testWork();
async function freshImages() {
  return await createImages({
    host,
    dataDirectory: await scratchDirectory("reg"),
    outbound: { allowHosts: [registry.host] },
  });
}

test.each(["oci", "docker", "zstd", "list"])("pulls :%s, by tag and by digest, exactly", async (tag) => {
  const images = await freshImages();
  const reference = `${registry.host}/team/app:${tag}`;
  const image = await images.resolve(reference, work);
  expect(image.startConfig).toMatchObject({ cmd: ["/bin/tool"], exposedPorts: ["80"], stopSignal: "SIGINT" });
  expect(image.startConfig.env).toContain("A=b");
  const byDigest = `${registry.host}/team/app@${image.contentDigest}`;
  expect(await images.resolve(byDigest, work)).toEqual(image);
  await images.fetchBlobs(image, byDigest, work);
  await images.fetchBlobs(image, byDigest, work);
  const { path } = await images.buildArtifact(image, work);
  await checkFileSystem(host, path);
  const { "/bin/tool": tool, "/bin/link": link } = await readBack(host, path, ["/bin/tool", "/bin/link"]);
  expect(tool).toMatchObject({ mode: "04751", uid: 12, gid: 34, size: 4 });
  expect(Object.keys(tool?.xattrs ?? {}).sort()).toEqual(["security.capability", "user.note"]);
  expect(link).toMatchObject({ target: "tool", mtime: `${(1_500_000_000).toString(16)}:00000000` });
});

test("two images share the blob of their common layer", async () => {
  const images = await freshImages();
  const [base, derived] = await Promise.all(
    ["oci", "derived"].map(async (tag) => {
      const reference = `${registry.host}/team/app:${tag}`;
      const image = await images.resolve(reference, work);
      await images.fetchBlobs(image, reference, work);
      return image;
    }),
  );
  expect(derived?.layers[0]).toEqual(base?.layers[0]);
  expect(derived?.layers).toHaveLength(2);
});

test.each([
  ["team/app:nothing", "image_not_found"],
  ["team/nothing", "image_not_found"],
  ["team/app:foreign-only", "unsupported_image"],
])("%s: %s", async (name, code) => {
  await expect((await freshImages()).resolve(`${registry.host}/${name}`, work)).rejects.toMatchObject({ code });
});
