import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { writeTar } from "../../core/testing/tar-writer.ts";
import { localHost } from "../../host/local.ts";
import { digestOf } from "../testing/fake-registry.ts";
import type { BuildInput } from "./fill-file-system.ts";

test("the program that fills a file system ends with whoever wanted it", async () => {
  const folder = await scratchDirectory("fil");
  const layer = writeTar([{ path: "f", content: "x" }]);
  const unpackedPath = join(folder, "layer");
  await writeFile(unpackedPath, layer);
  const input: BuildInput = {
    layers: [{ path: "", size: layer.length, digest: "", diffId: digestOf(layer), unpackedPath }],
    imagePath: join(folder, "image"),
    limits: { maxEntries: 10, maxBytes: 1000, maxLayerBytes: 100_000, maxRatio: 200, ratioFromBytes: 100_000 },
  };
  const filling = localHost().start(process.execPath, [join(import.meta.dirname, "fill-file-system.ts")]);
  filling.stdin.write(`${JSON.stringify(input)}\n`);
  const [said] = await once(filling.stdout, "data");
  expect(JSON.parse(String(said))).toMatchObject({ type: "planned" });
  filling.stdin.end();
  await expect(filling.done).rejects.toMatchObject({ reason: "exit", exitCode: 1 });
});
