import type { Image } from "@berth/api";
import { command } from "../../command.ts";
import { findImage, whereFrom } from "../../images.ts";
import { bytes, facts } from "../../text.ts";

export default command<Record<never, never>, [string]>({
  parameters: {
    positional: { kind: "tuple", parameters: [{ parse: String, brief: "A reference or an id", placeholder: "IMAGE" }] },
  },
  async run(context, _flags, name) {
    const image = await findImage(context, name);
    context.print(image, () => facts(describe(image)));
  },
});

function describe({ startConfig, source, ...image }: Image): [string, string][] {
  const optional: [string, string | null | undefined][] = [
    ["Reason", image.reason],
    ["Digest", image.contentDigest],
    ["Size", image.sizeBytes === null ? "" : bytes(image.sizeBytes)],
    ["Made by", image.operationId],
    ["Entrypoint", startConfig && JSON.stringify(startConfig.entrypoint)],
    ["Command", startConfig && JSON.stringify(startConfig.cmd)],
    ["User", startConfig?.user],
    ["Folder", startConfig?.workingDir],
    ["Ports", startConfig?.exposedPorts.join(", ")],
    ["Stop signal", startConfig?.stopSignal],
  ];
  return [
    ["Id", image.id],
    ["References", image.references.join(", ")],
    ["State", image.state],
    ["From", `${source.type} ${whereFrom(source)}`],
    ["Platform", `${image.os}/${image.architecture}`],
    ["Created", image.createdAt],
    ...optional.flatMap(([name, value]): [string, string][] => (value ? [[name, value]] : [])),
  ];
}
