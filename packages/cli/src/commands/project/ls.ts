import { command, yes } from "../../command.ts";
import { listAll } from "../../pages.ts";
import { age, table } from "../../text.ts";

export default command<{ quiet?: boolean }>({
  description: "Those that you have a role in; all of them for who administers the whole system.",
  parameters: { flags: { quiet: yes("Print names only") }, aliases: { q: "quiet" } },
  async run(context, { quiet }) {
    const client = await context.client();
    const projects = await listAll((page) => client.listProjects({ query: page }));
    if (quiet) return context.print(projects, () => projects.map(({ name }) => `${name}\n`).join(""));
    const rows = projects.map(({ name, createdAt }) => [name, age(createdAt, Date.now())]);
    context.print(projects, () => table(["NAME", "AGE"], rows));
  },
});
