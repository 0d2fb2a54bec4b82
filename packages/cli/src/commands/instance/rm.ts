import { changeInstances } from "../../change-instances.ts";
import { command, instanceArguments, yes } from "../../command.ts";

export default command<{ force?: boolean }, string[]>({
  parameters: {
    flags: { force: yes("Also one that is running or busy") },
    aliases: { f: "force" },
    positional: instanceArguments,
  },
  run: (context, { force }, ...names) =>
    changeInstances(context, names, (client, instance, options) =>
      client.deleteInstance({ params: { instance }, query: { force } }, options),
    ),
});
