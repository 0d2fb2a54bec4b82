import { command, projectArgument } from "../../command.ts";
import { deleteRecords } from "../../delete-records.ts";

export default command<Record<never, never>, string[]>({
  description: "One that still holds something is not deleted. Its tokens go with it.",
  parameters: { positional: { kind: "array", minimum: 1, parameter: projectArgument } },
  run: (context, _flags, ...names) =>
    deleteRecords(context, names, (client, project) => client.deleteProject({ params: { project } })),
});
