import type { Node } from "@berth/api";
import { command } from "../../command.ts";
import { listAll } from "../../pages.ts";
import { age, mebibytes, table } from "../../text.ts";

export default command({
  parameters: {},
  async run(context) {
    const client = await context.client();
    const nodes = await listAll(() => client.listNodes());
    context.print(nodes, () =>
      table(
        ["NAME", "ID", "VERSION", "CPUS", "MEMORY", "ACCELERATOR", "UP"],
        nodes.map((node) => row(node, Date.now())),
      ),
    );
  },
});

function row(node: Node, now: number): string[] {
  return [
    node.name,
    node.id,
    node.version,
    String(node.cpus),
    mebibytes(node.memoryMib),
    node.accelerator?.kind ?? "-",
    age(node.startedAt, now),
  ];
}
