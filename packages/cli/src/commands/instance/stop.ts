import { changeInstances } from "../../change-instances.ts";
import { command, instanceArguments, yes } from "../../command.ts";

export default command<{ force?: boolean }, string[]>({
  parameters: {
    flags: { force: yes("Cut the power at once; lose the memory of one that is suspended") },
    aliases: { f: "force" },
    positional: instanceArguments,
  },
  run: (context, { force }, ...names) =>
    changeInstances(context, names, (client, instance, options) =>
      client.stopInstance({ params: { instance }, query: { force } }, options),
    ),
});
