import { execFileSync } from "node:child_process";
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Image, Instance } from "@berth/api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { berthOf, type RunBerth } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { type GitServer, startGitServer } from "./git-server.ts";
import { makeImages } from "./made-images.ts";

let folder: string;
let server: GitServer;
let url: string;
let first: string;

beforeAll(async () => {
  folder = await scratchDirectory("git");
  const repository = join(folder, "site.git");
  const identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"];
  const git = (...args: readonly string[]) =>
    execFileSync("git", [...identity, "-C", repository, ...args], {
      encoding: "utf8",
      env: { PATH: process.env.PATH, HOME: folder },
    }).trim();
  cpSync(makeImages(join(folder, "made")).static, join(repository, "deploy"), { recursive: true });
  git("init", "--quiet");
  for (const version of ["first", "second", "third"]) {
    writeFileSync(
      join(repository, "deploy/Dockerfile"),
      `FROM scratch\nCOPY probe /probe\nLABEL version=${version}\nCMD ["/probe", "${version}"]\n`,
    );
    git("add", ".");
    git("commit", "--quiet", "-m", version);
    if (version === "first") first = git("rev-parse", "HEAD");
    if (version === "second") git("tag", "v2");
  }
  git("branch", "old/line", first);
  server = await startGitServer(folder);
  url = `http://${server.host}/site.git`;
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

describe.each(whoRunsBerthd)("berthd as $who", ({ ordinaryUser }) => {
  let berthd: Berthd;
  let cli: RunBerth;

  beforeAll(async () => {
    const dataDir = join(folder, ordinaryUser ? "u" : "r");
    berthd = await startBerthd({ dataDir, ordinaryUser, env: { BERTH_ALLOW_HOSTS: server.host } });
    cli = berthOf(berthd);
  });
  afterAll(async () => {
    await berthd?.stop();
  });

  test("an image is built from a branch, a tag and a commit of a repository that is served over HTTP", async () => {
    const versions: Record<string, string | undefined> = {};
    for (const ref of ["main", "old/line", "v2", first]) {
      const image = await cli.json<Image>("image", "build", "-t", "site", `${url}#${ref}:deploy`);
      versions[ref] = image.startConfig?.labels.version;
      expect(image.source).toMatchObject({
        type: "git",
        url,
        ref,
        subdirectory: "deploy",
        commit: expect.stringMatching(/^[0-9a-f]{40}$/),
      });
    }
    expect(versions).toEqual({ main: "third", "old/line": "first", v2: "second", [first]: "first" });
    const missing = await cli.run(["image", "build", `${url}#nowhere:deploy`]);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining("nowhere") });
  });

  test("launch builds it by itself and runs it", async () => {
    expect(await cli.berth("launch", `${url}#v2:deploy`, "--name", "site", "--memory", "128M")).toBe("site\n");
    expect(await cli.berth("logs", "site")).toContain("argument second\n");
    expect((await cli.json<Instance>("show", "site")).status.ready).toBe(true);
    await cli.berth("rm", "--force", "site");
  });
});
