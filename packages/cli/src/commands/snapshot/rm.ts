import { changeSnapshots } from "../../change-snapshots.ts";
import { command, snapshotArguments } from "../../command.ts";

export default command<Record<never, never>, string[]>({
  description: "Other snapshots, and instances made from it, keep what they need of it.",
  parameters: { positional: snapshotArguments },
  run: (context, _flags, ...names) =>
    changeSnapshots(context, names, (client, snapshot, options) =>
      client.deleteSnapshot({ params: { snapshot } }, options),
    ),
});
