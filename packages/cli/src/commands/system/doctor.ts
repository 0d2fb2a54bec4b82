import type { Node } from "@berth/api";
import { type Context, command } from "../../command.ts";
import { describeCheck, describeNode, isWell } from "../../describe-node.ts";
import { asProblem, Exit, exitCodes } from "../../errors.ts";
import { listAll } from "../../pages.ts";
import { readSettings } from "../../settings.ts";

export default command({
  description:
    "Looks whether berthd can be reached and what each node was checked for. Ends with exit code 1 when something is not well.",
  parameters: {},
  async run(context) {
    const { url, token } = await readSettings(context.outside);
    const answer = await askNodes(context);
    const client = {
      name: "berthd",
      ok: answer.error === undefined,
      detail: `${url}, ${token ? "with a token" : "without a token"}${answer.error ? `: ${(answer.error as Error).message}` : ""}`,
      hint: answer.error ? String((asProblem(answer.error) as { hint: string }).hint) : "",
    };
    const well = client.ok && answer.nodes.every(isWell);
    context.print({ ok: well, client, nodes: answer.nodes }, () =>
      [describeCheck(client), ...answer.nodes.map(describeNode)].join("\n"),
    );
    if (!well) throw new Exit(exitCodes.failed);
  },
});

async function askNodes(context: Context): Promise<{ nodes: readonly Node[]; error?: unknown }> {
  try {
    const client = await context.client();
    return { nodes: await listAll(() => client.listNodes()) };
  } catch (error) {
    return { nodes: [], error };
  }
}
