import { command } from "../../command.ts";
import { describeNode } from "../../describe-node.ts";

export default command<Record<never, never>, [string]>({
  parameters: {
    positional: { kind: "tuple", parameters: [{ parse: String, brief: "A node's name or id", placeholder: "NODE" }] },
  },
  async run(context, _flags, name) {
    const client = await context.client();
    const node = await client.getNode({ params: { node: name } });
    context.print(node, () => describeNode(node));
  },
});
