import { realpath, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { BuildImageInput } from "@berth/api";
import { UsageError } from "./errors.ts";

/** Whether an IMAGE is something to build: a folder (written as a path) or a Git URL. Anything else is a reference. */
export function isBuildSource(image: string): boolean {
  return isPath(image) || isGitUrl(image);
}

function isPath(image: string): boolean {
  return image === "." || image === ".." || /^(\.{0,2}\/)/.test(image);
}

function isGitUrl(image: string): boolean {
  return /^(https?|git|ssh|file):\/\//.test(image) || /^[\w.-]+@[\w.-]+:/.test(image);
}

/**
 * What to build of a folder or Git URL. A URL may end in `#REF` or `#REF:FOLDER`, as docker build has it. Without a reference of its own the image is named
 * after the folder or repository: `localhost/web:latest`.
 */
export async function buildRequest(
  source: string,
  cwd: string,
  options: { reference?: string | undefined; dockerfile?: string | undefined; buildArgs?: Record<string, string> } = {},
): Promise<BuildImageInput> {
  const more = {
    ...(options.dockerfile === undefined ? {} : { dockerfile: options.dockerfile }),
    ...(options.buildArgs === undefined ? {} : { buildArgs: options.buildArgs }),
  };
  if (!isPath(source) && isGitUrl(source)) {
    const [url = "", fragment = ""] = source.split("#", 2);
    const [ref = "", subdirectory = ""] = fragment.split(":", 2);
    const name = subdirectory || url.replace(/\/+$/, "").replace(/\.git$/, "");
    return {
      reference: options.reference ?? referenceFor(name),
      source: { type: "git", url, ...(ref ? { ref } : {}), ...(subdirectory ? { subdirectory } : {}) },
      ...more,
    };
  }
  const path = await folder(resolve(cwd, source), options.dockerfile ?? "Dockerfile");
  return { reference: options.reference ?? referenceFor(path), source: { type: "directory", path }, ...more };
}

async function folder(path: string, dockerfile: string): Promise<string> {
  const facts = await stat(path).catch(() => undefined);
  if (!facts?.isDirectory())
    throw new UsageError(
      `${path} is not a folder.`,
      "Give a folder with a Dockerfile, or a Git URL; an image from a registry is written without a leading ./ or /.",
    );
  if (!(await stat(join(path, dockerfile)).catch(() => undefined)))
    throw new UsageError(`${path} has no ${dockerfile}.`);
  return realpath(path);
}

/** `localhost/NAME:latest` after the last part of a path or URL. */
function referenceFor(source: string): string {
  const name = basename(source.replace(/:/g, "/"))
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "");
  return `localhost/${name || "image"}:latest`;
}
