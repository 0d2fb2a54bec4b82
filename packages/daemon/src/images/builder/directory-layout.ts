import { createHash } from "node:crypto";
import { copyFile, link, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { blobFromFile } from "../blobs.ts";
import type { BaseImage, Layout } from "./builder.ts";

/** Reads a `dir:` layout. Its blobs are verified by whoever takes them. */
export async function readDirectoryLayout(directory: string): Promise<Layout> {
  const bytes = await readFile(join(directory, "manifest.json"));
  return {
    manifest: { bytes, digest: `sha256:${createHash("sha256").update(bytes).digest("hex")}` },
    blob: (digest) => blobFromFile(join(directory, digest.slice("sha256:".length))),
  };
}

/** Writes an image of the blob cache as a `dir:` layout, by hard links where it can. */
export async function writeDirectoryLayout(directory: string, image: BaseImage): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, "version"), "Directory Transport Version: 1.1\n");
  const files = [
    { name: "manifest.json", path: image.manifestPath },
    ...image.blobs.map(({ digest, path }) => ({ name: digest.slice("sha256:".length), path })),
  ];
  for (const { name, path } of files) {
    const target = join(directory, name);
    await link(path, target).catch(async (error: NodeJS.ErrnoException) => {
      // The same layer twice in one image is one file.
      if (error.code !== "EEXIST") await copyFile(path, target);
    });
  }
}
