import { command, projectArgument } from "../../command.ts";
import { forEach } from "../../follow.ts";

export default command<Record<never, never>, string[]>({
  description: "One that still holds something is not deleted. Its tokens go with it.",
  parameters: { positional: { kind: "array", minimum: 1, parameter: projectArgument } },
  async run(context, _flags, ...names) {
    const client = await context.client();
    const deleted = await forEach(context, [...new Set(names)], async (name) => {
      const project = await client.deleteProject({ params: { project: name } });
      if (!context.json) context.out.print(`${project.name}\n`);
      return project;
    });
    if (context.json) context.print(deleted, () => "");
  },
});
