import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { findProgram } from "../setup/programs.mjs";
import { repositoryRoot } from "../support/parts.ts";

/** What the first image is built from, and the name it gets: the same content has the same name, so it is built once. */
export interface HelloImage {
  readonly folder: string;
  readonly reference: string;
}

/** Lays examples/hello and the host's own static busybox side by side in .tools/hello. Nothing is fetched. */
export function prepareHelloImage(): HelloImage {
  const busybox = findProgram("busybox");
  if (!busybox) throw new Error("busybox is not installed: apt-get install busybox-static");
  const example = join(repositoryRoot, "examples/hello");
  const folder = join(repositoryRoot, ".tools/hello");
  rmSync(folder, { recursive: true, force: true });
  cpSync(example, folder, { recursive: true });
  mkdirSync(join(folder, "bin"));
  copyFileSync(busybox, join(folder, "bin/busybox"));
  const names = execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n");
  for (const name of names) if (name !== "busybox") symlinkSync("busybox", join(folder, "bin", name));
  return { folder, reference: `localhost/hello:${hashFiles([busybox, ...filesOf(example)])}` };
}

function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile())
    .sort();
}

function hashFiles(paths: readonly string[]): string {
  const hash = createHash("sha256");
  for (const path of paths) hash.update(path).update("\0").update(readFileSync(path));
  return hash.digest("hex").slice(0, 12);
}
