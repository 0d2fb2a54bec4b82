import { closeSync, fstatSync, openSync } from "node:fs";
import { createInterface } from "node:readline";
import { BerthError, type ErrorCode } from "@berth/api";
import { type ByteSource, readTar } from "../../core/tar.ts";
import { isNoSpace } from "../../host/host.ts";
import { type DecompressLimits, unpackLayer } from "../layers/decompress.ts";
import { type MergeLimits, mergeLayers } from "../layers/merge.ts";
import { planLayout } from "./layout.ts";
import { populate, readFully } from "./populate.ts";

/** A layer to build from: a blob, and where it is unpacked to unless it is there already. */
export interface SourceLayer {
  readonly path: string;
  readonly size: number;
  readonly digest: string;
  readonly diffId: string;
  readonly unpackedPath: string;
}

/** What the program that fills a file system is given. */
export interface BuildInput {
  readonly layers: readonly SourceLayer[];
  /** The file that mke2fs makes once the size is known. */
  readonly imagePath: string;
  readonly limits: MergeLimits & DecompressLimits;
}

/** What it says. After `planned` it waits for a line, sent when the empty file system is there. */
export type BuildMessage =
  | { readonly type: "log"; readonly line: string }
  | { readonly type: "progress"; readonly phase: "unpack" | "write"; readonly bytes: number }
  | { readonly type: "planned"; readonly inodeCount: number; readonly sizeBytes: number; readonly contentBytes: number }
  | { readonly type: "done" }
  | { readonly type: "failed"; readonly code: ErrorCode; readonly detail: string };

const progressEveryBytes = 8 * 1024 * 1024;
/** Layers unpacked at the same time: unpacking is a thread's work each. */
const concurrency = 2;

// Run as a program, so that what an image holds is read in a process of its own: the input is the first line of its standard input, and it writes a message a line.
const lines = createInterface({ input: process.stdin });
const read = lines[Symbol.asyncIterator]();
/** Its standard input stays open for as long as somebody wants the result. */
const stopUnwanted = () => process.exit(1);
const say = (message: BuildMessage) => process.stdout.write(`${JSON.stringify(message)}\n`);

try {
  const { value } = await read.next();
  lines.once("close", stopUnwanted);
  await build(JSON.parse(value ?? "") as BuildInput);
} catch (error) {
  if (error instanceof BerthError) say({ type: "failed", code: error.code, detail: error.message });
  else if (isNoSpace(error)) {
    say({ type: "failed", code: "disk_full", detail: "No space is left to build the image's disk." });
  } else throw error;
} finally {
  lines.off("close", stopUnwanted);
  process.stdin.destroy();
}

async function build({ layers, imagePath, limits }: BuildInput): Promise<void> {
  const archives: string[] = [];
  const queue = layers.entries();
  const unpacked = reportBytes("unpack");
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (const [index, layer] of queue) {
        archives[index] = await unpackLayer(layer, limits, unpacked);
      }
    }),
  );
  const files = archives.map((path) => openSync(path, "r"));
  try {
    const sources = files.map(byteSource);
    const entries = sources.map((source, index) => {
      const name = layers[index]?.digest ?? "";
      const refuse = (why: string) => new BerthError("unsafe_image", `Layer ${name} is ${why}.`);
      return { name, entries: readTar(source, refuse) };
    });
    const log = (line: string) => say({ type: "log", line });
    const layout = planLayout(mergeLayers(entries, limits, log), log);
    const { inodeCount, sizeBytes, contentBytes } = layout;
    say({ type: "planned", inodeCount, sizeBytes, contentBytes });
    await read.next();
    const image = openSync(imagePath, "r+");
    try {
      populate(image, layout, sources, reportBytes("write"));
    } finally {
      closeSync(image);
    }
    say({ type: "done" });
  } finally {
    for (const file of files) closeSync(file);
  }
}

function byteSource(fd: number): ByteSource {
  return { size: fstatSync(fd).size, read: (buffer, position) => readFully(fd, buffer, position) };
}

function reportBytes(phase: "unpack" | "write"): (count: number) => void {
  let bytes = 0;
  let told = 0;
  return (count) => {
    bytes += count;
    if (bytes - told < progressEveryBytes) return;
    told = bytes;
    say({ type: "progress", phase, bytes });
  };
}
