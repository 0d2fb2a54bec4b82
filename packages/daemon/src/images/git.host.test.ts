import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { checkoutGit, type GitLimits } from "./git.ts";
import { createOutbound } from "./outbound.ts";
import { testWork } from "./testing/work.ts";

const host = localHost();
const roomy: GitLimits = { maxGitBytes: 2 ** 30, maxEntries: 1000 };
let url: string;
let folder: string;
const commits: Record<string, string> = {};

beforeAll(async () => {
  folder = await scratchDirectory("git");
  const repository = join(folder, "repository");
  await mkdir(join(repository, "sub"), { recursive: true });
  const identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"];
  const git = async (...args: readonly string[]) =>
    (await host.run("git", [...identity, "-C", repository, ...args], { env: { HOME: folder } })).stdout.trim();
  await git("init", "--quiet");
  await symlink("/etc", join(repository, "out"));
  for (const version of ["one", "two"]) {
    await writeFile(join(repository, "sub/version"), version);
    await git("add", ".");
    await git("commit", "--quiet", "-m", version);
    commits[version] = await git("rev-parse", "HEAD");
    if (version === "one") await git("tag", "-a", "-m", "first", "v1");
  }
  await git("branch", "feature/x", "v1^{commit}");
  url = `file://${repository}`;
});

async function checkout(
  request: { url?: string; ref?: string; subdirectory?: string },
  allowFiles = true,
  allowHosts: string[] = [],
  limits: Partial<GitLimits> = {},
) {
  const temporaryDirectory = join(folder, "tmp");
  const outbound = createOutbound({ allowHosts });
  return await checkoutGit(
    { host, outbound, temporaryDirectory, allowFiles, limits: { ...roomy, ...limits } },
    { url, ref: "HEAD", subdirectory: "", ...request },
    testWork(),
  );
}

describe("checkoutGit", () => {
  test.each([
    ["HEAD", "two"],
    ["main", "two"],
    ["v1", "one"],
    ["feature/x", "one"],
  ])("%s is version %s", async (ref, version) => {
    await using found = await checkout({ ref, subdirectory: "sub" });
    expect(found.commit).toBe(commits[version]);
    expect(await readdir(found.directory)).toEqual(["version"]);
    expect(await readFile(join(found.directory, "version"), "utf8")).toBe(version);
  });

  test("a commit by its id", async () => {
    await using found = await checkout({ ref: commits.one ?? "" });
    expect(await readFile(join(found.directory, "sub/version"), "utf8")).toBe("one");
    expect(await readdir(found.directory)).not.toContain(".git");
  });

  test.each([
    ["a ref that is not there", { ref: "nothing" }],
    ["a folder that is not there", { subdirectory: "nothing" }],
    ["a folder above", { subdirectory: "../.." }],
    ["a folder behind a link", { subdirectory: "out" }],
  ])("%s is not found, and nothing stays", async (_what, request) => {
    await expect(checkout(request)).rejects.toMatchObject({ code: "git_not_found" });
    expect(await readdir(join(folder, "tmp"))).toEqual([]);
  });

  test.each([
    ["an option as a ref", { ref: "--upload-pack=true" }],
    ["git's own way to run a command", { url: "ext::sh -c true" }],
    ["a path", { url: "/etc" }],
    ["ssh", { url: "ssh://localhost/x" }],
    ["a password", { url: "https://bob:s3cret@git.example/x.git" }],
    ["a token as the user's name", { url: "https://s3cret@git.example/x.git" }],
    ["a query", { url: "https://git.example/x.git?private_token=s3cret" }],
  ])("%s is refused, and nothing stays", async (_what, request) => {
    await expect(checkout(request)).rejects.toMatchObject({ code: "invalid_request" });
    expect(await readdir(join(folder, "tmp"))).toEqual([]);
  });

  describe("a repository that is larger than may be", () => {
    /** Makes a repository of these files, each of so many bytes, that compress or do not. */
    const make = async (name: string, files: Readonly<Record<string, Buffer>>) => {
      const repository = join(folder, name);
      await mkdir(repository);
      const git = (...args: readonly string[]) =>
        host.run("git", ["-c", "user.name=t", "-c", "user.email=t@localhost", "-C", repository, ...args]);
      await git("init", "--quiet");
      for (const [path, content] of Object.entries(files)) await writeFile(join(repository, path), content);
      await git("add", ".");
      await git("commit", "--quiet", "-m", "large");
      return `file://${repository}`;
    };

    test.each([
      ["sends more", { noise: randomBytes(300_000) }, /sends more than 200000 bytes for HEAD/],
      ["has larger files", { zeroes: Buffer.alloc(300_000) }, /has files of more than 200000 bytes at HEAD/],
      ["has more files", { a: Buffer.from("a"), b: Buffer.from("b"), c: Buffer.from("c") }, /has more than 2 files/],
    ])("that %s is refused, and nothing stays; larger limits let it through", async (what, files, words) => {
      const large = await make(what.replaceAll(" ", "-"), files);
      const failure = checkout({ url: large }, true, [], { maxGitBytes: 200_000, maxEntries: 2 });
      await expect(failure).rejects.toMatchObject({ code: "unsafe_image", message: expect.stringMatching(words) });
      expect(await readdir(join(folder, "tmp"))).toEqual([]);
      await using found = await checkout({ url: large });
      expect(await readdir(found.directory)).toEqual(Object.keys(files));
    });

    test("that names a million files by trees that hold one another is refused before any is written", async () => {
      const bomb = await make("bomb", { file: Buffer.from("x") });
      const repository = new URL(bomb).pathname;
      const git = async (args: readonly string[], input = "") =>
        (
          await host.run("git", ["-c", "user.name=t", "-c", "user.email=t@localhost", "-C", repository, ...args], {
            input,
          })
        ).stdout.trim();
      let tree = await git(["rev-parse", "HEAD^{tree}"]);
      for (let level = 0; level < 6; level += 1) {
        tree = await git(["mktree"], Array.from({ length: 10 }, (_, at) => `040000 tree ${tree}\t${at}\n`).join(""));
      }
      await git(["update-ref", "HEAD", await git(["commit-tree", "-m", "bomb", tree])]);
      await expect(checkout({ url: bomb })).rejects.toMatchObject({
        code: "unsafe_image",
        message: expect.stringContaining("has more than 1000 files at HEAD"),
      });
      expect(await readdir(join(folder, "tmp"))).toEqual([]);
    });
  });

  test("files of the node only where that is allowed", async () => {
    await expect(checkout({}, false)).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("loopback is refused unless listed, and a redirect is not followed", async () => {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url ?? "");
      response.writeHead(302, { location: "http://127.0.0.1:9/elsewhere" }).end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    try {
      await expect(checkout({ url: `https://127.0.0.1:${port}/x.git` })).rejects.toMatchObject({
        code: "address_refused",
      });
      await expect(checkout({ url: `http://127.0.0.1:${port}/x.git` })).rejects.toMatchObject({
        code: "invalid_request",
      });
      expect(asked).toEqual([]);
      const listed = checkout({ url: `http://127.0.0.1:${port}/x.git` }, false, [`127.0.0.1:${port}`]);
      await expect(listed).rejects.toMatchObject({ code: "git_fetch_failed" });
      expect(asked).toHaveLength(1);
    } finally {
      server.close();
    }
  });
});
