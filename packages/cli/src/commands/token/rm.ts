import { command, tokenArgument } from "../../command.ts";
import { deleteRecords } from "../../delete-records.ts";

export default command<Record<never, never>, string[]>({
  description: "They are refused from now on, and what is open under them ends.",
  parameters: { positional: { kind: "array", minimum: 1, parameter: tokenArgument } },
  run: (context, _flags, ...names) =>
    deleteRecords(context, names, (client, token) => client.deleteToken({ params: { token } })),
});
