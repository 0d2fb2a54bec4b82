import { command, text, texts } from "../../command.ts";
import { readEnvironment } from "../../environment.ts";
import { buildAndWait } from "../../images.ts";

type Flags = {
  tag?: string;
  file?: string;
  buildArg?: string[];
};

export default command<Flags, [string]>({
  description:
    "SOURCE is a folder on the node or a Git URL, at its end #REF or #REF:FOLDER. Prints the image's id; when the build fails, the end of its log.",
  parameters: {
    flags: {
      tag: text("The reference to give it; localhost/FOLDER:latest when not given", "REFERENCE"),
      file: text("The Dockerfile's path within the folder", "FILE"),
      buildArg: texts("Set a build argument: K=V, or K for your own value", "K=V"),
    },
    aliases: { t: "tag", f: "file" },
    positional: {
      kind: "tuple",
      parameters: [{ parse: String, brief: "A folder or a Git URL", placeholder: "SOURCE" }],
    },
  },
  async run(context, { tag, file, buildArg }, source) {
    const buildArgs = await readEnvironment(buildArg ?? [], [], context.outside.env);
    const folder = source.includes("://") || source.includes("@") || /^\.{0,2}\//.test(source) ? source : `./${source}`;
    const image = await buildAndWait(context, folder, { reference: tag, dockerfile: file, buildArgs });
    context.print(image, () => `${image.id}\n`);
  },
});
