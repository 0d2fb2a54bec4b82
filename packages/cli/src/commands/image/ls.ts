import type { Image } from "@berth/api";
import { command, yes } from "../../command.ts";
import { whereFrom } from "../../images.ts";
import { listAll } from "../../pages.ts";
import { age, bytes, table } from "../../text.ts";

export default command<{ quiet?: boolean }>({
  parameters: { flags: { quiet: yes("Print ids only") }, aliases: { q: "quiet" } },
  async run(context, { quiet }) {
    const client = await context.client();
    const images = await listAll((page) => client.listImages({ query: page }));
    if (quiet) return context.print(images, () => images.map(({ id }) => `${id}\n`).join(""));
    context.print(images, () =>
      table(
        ["REFERENCE", "ID", "STATE", "SIZE", "AGE"],
        images.map((image) => row(image, Date.now())),
      ),
    );
  },
});

/** One that no reference names, as when it failed, is known by where it came from. */
function row({ references, source, id, state, sizeBytes, createdAt }: Image, now: number): string[] {
  const name = references.join(", ") || `(${whereFrom(source)})`;
  return [name, id, state, sizeBytes === null ? "-" : bytes(sizeBytes), age(createdAt, now)];
}
