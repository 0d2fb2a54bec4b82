import { command } from "../../command.ts";
import { copyIn, copyOut } from "../../copy.ts";
import { UsageError } from "../../errors.ts";
import { bytes } from "../../text.ts";

const place = { parse: String, placeholder: "PLACE" } as const;

export default command<Record<never, never>, [string, string]>({
  description:
    "A place in a guest is NAME:PATH, any other a path here, as with docker cp: a folder that exists receives the copy, otherwise the copy gets that name; " +
    "FOLDER/. copies what is inside. - is a tar archive on standard input or output. Owners are not kept; what would land outside the target is refused.",
  usage: ["SRC NAME:DST", "NAME:SRC DST"],
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        { ...place, brief: "What to copy" },
        { ...place, brief: "Where to" },
      ],
    },
  },
  async run(context, _flags, source, target) {
    const [from, to] = [guestPlace(source), guestPlace(target)];
    if ((from && to) || (!from && !to))
      throw new UsageError("One of the two places must be in a guest, as NAME:PATH, and only one.");
    const copied = from ? await copyOut(context, from, target) : to && (await copyIn(context, source, to));
    if (!copied) return;
    for (const skipped of copied.skipped) context.out.say(`Left out: ${skipped}`);
    if (context.json && target !== "-") context.print(copied, () => "");
    else if (context.outside.stderr.isTTY) context.out.say(`Copied ${copied.files} files, ${bytes(copied.bytes)}.`);
  },
});

/** `NAME:PATH`; a path here begins with a dot or slash when it has a colon. */
function guestPlace(place: string): { instance: string; path: string } | undefined {
  const match = /^([a-z0-9][a-z0-9-]{0,62}):(.*)$/s.exec(place);
  if (!match?.[1]) return undefined;
  const path = match[2] ?? "";
  return { instance: match[1], path: path.startsWith("/") ? path : `/${path}` };
}
