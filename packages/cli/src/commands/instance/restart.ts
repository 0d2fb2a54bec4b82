import { changeInstances } from "../../change-instances.ts";
import { command, instanceArguments } from "../../command.ts";

export default command<Record<never, never>, string[]>({
  parameters: { positional: instanceArguments },
  run: (context, _flags, ...names) =>
    changeInstances(context, names, (client, instance, options) =>
      client.restartInstance({ params: { instance } }, options),
    ),
});
