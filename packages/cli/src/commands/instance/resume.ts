import { changeInstances } from "../../change-instances.ts";
import { command, instanceArguments } from "../../command.ts";

export default command<Record<never, never>, string[]>({
  description: "The same as berth start: what is suspended goes on from where it was, what is stopped boots.",
  parameters: { positional: instanceArguments },
  run: (context, _flags, ...names) =>
    changeInstances(context, names, (client, instance, options) =>
      client.startInstance({ params: { instance } }, options),
    ),
});
