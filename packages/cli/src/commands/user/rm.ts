import { command, userArgument } from "../../command.ts";
import { deleteRecords } from "../../delete-records.ts";

export default command<Record<never, never>, string[]>({
  description: "Their sessions end. Tokens that they made stay: berth token ls.",
  parameters: { positional: { kind: "array", minimum: 1, parameter: userArgument } },
  run: (context, _flags, ...names) =>
    deleteRecords(context, names, (client, user) => client.deleteUser({ params: { user } })),
});
