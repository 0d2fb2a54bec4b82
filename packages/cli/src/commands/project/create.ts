import { command } from "../../command.ts";

export default command<Record<never, never>, [string]>({
  description: "Only who administers the whole system may. Prints its name.",
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ parse: String, brief: "A name for the project", placeholder: "NAME" }],
    },
  },
  async run(context, _flags, name) {
    const client = await context.client();
    const project = await client.createProject({ body: { name } }, { idempotencyKey: crypto.randomUUID() });
    context.print(project, () => `${project.name}\n`);
  },
});
