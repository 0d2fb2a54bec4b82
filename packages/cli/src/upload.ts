import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { basename } from "node:path";
import type { Archive } from "@berth/api";
import { beginningOf, sizeOf } from "./archive-file.ts";
import type { Context } from "./command.ts";
import { UserError } from "./errors.ts";
import { listAll } from "./pages.ts";
import { bytes } from "./text.ts";
import { carry } from "./transfer.ts";

const firstEntry = "manifest.json";

/** Sends an archive to berthd, after what has arrived of it before; answers with it once it is there wholly. */
export async function upload(context: Context, file: string): Promise<Archive> {
  const client = await context.client();
  const sizeBytes = await sizeOf(file);
  if (sizeBytes === undefined) throw new UserError(`There is no ${file} here.`);
  await refuseOther(file).catch((error: NodeJS.ErrnoException) => {
    // The system names the file of a failed open, but not of a failed read.
    throw Object.assign(error, { path: error.path ?? file });
  });
  const archive = await announced(context, file, sizeBytes);
  const params = { archive: archive.id };
  const now = () => client.getArchive({ params });
  await carry(context, {
    name: archive.name,
    totalBytes: sizeBytes,
    position: async () => (await now()).receivedBytes,
    async go(from, signal, told) {
      let position = from;
      const counted = async function* () {
        for await (const chunk of createReadStream(file, { start: from, highWaterMark: 256 * 1024 })) {
          yield chunk as Buffer;
          position += (chunk as Buffer).length;
          told(position);
        }
      };
      await client.writeArchive({ params, body: counted() }, { fromByte: from, signal }).catch((error: unknown) => {
        // More arrived of what was sent before than was known: it is asked for again.
        if ((error as { code?: unknown }).code !== "upload_offset") throw error;
      });
    },
  });
  return now();
}

/** A file that is no archive at all need not be sent to find that out. */
async function refuseOther(file: string): Promise<void> {
  const handle = await open(file, "r");
  try {
    const { buffer } = await handle.read(Buffer.alloc(firstEntry.length + 1), 0, firstEntry.length + 1, 0);
    if (buffer.toString("latin1") === `${firstEntry}\0`) return;
  } finally {
    await handle.close();
  }
  throw new UserError(`${file} is not a file that berth export has written.`);
}

async function announced(context: Context, file: string, sizeBytes: number): Promise<Archive> {
  const client = await context.client();
  const beginning = await beginningOf(file);
  const archives = await listAll((page) => client.listArchives({ query: page }));
  const begun = archives.find(
    (archive) => archive.source.type === "upload" && archive.sizeBytes === sizeBytes && archive.beginning === beginning,
  );
  if (begun && begun.receivedBytes > 0)
    context.out.say(`Going on with ${begun.id}, of which ${bytes(begun.receivedBytes)} have arrived.`);
  const name = basename(file);
  return (
    begun ?? client.createArchive({ body: { name, sizeBytes, beginning } }, { idempotencyKey: crypto.randomUUID() })
  );
}
