import { changeSnapshots } from "../../change-snapshots.ts";
import { command, snapshotArguments } from "../../command.ts";

export default command<Record<never, never>, string[]>({
  description:
    "Reads all that they stand on from end to end and compares it with the checksums that were recorded. Exit code 1 when one is damaged.",
  parameters: { positional: snapshotArguments },
  run: (context, _flags, ...names) =>
    changeSnapshots(context, names, (client, snapshot, options) =>
      client.verifySnapshot({ params: { snapshot } }, options),
    ),
});
