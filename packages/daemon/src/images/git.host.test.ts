import { once } from "node:events";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { checkoutGit } from "./git.ts";
import { createOutbound } from "./outbound.ts";
import { testWork } from "./testing/work.ts";

const host = localHost();
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
) {
  const temporaryDirectory = join(folder, "tmp");
  const outbound = createOutbound({ allowHosts });
  return await checkoutGit(
    { host, outbound, temporaryDirectory, allowFiles },
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
    ["an option as a ref", { ref: "--upload-pack=true" }],
    ["a folder that is not there", { subdirectory: "nothing" }],
    ["a folder above", { subdirectory: "../.." }],
    ["a folder behind a link", { subdirectory: "out" }],
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
      await expect(listed).rejects.toMatchObject({ code: "registry_unreachable" });
      expect(asked).toHaveLength(1);
    } finally {
      server.close();
    }
  });
});
