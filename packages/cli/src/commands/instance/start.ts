import { changeInstances } from "../../change-instances.ts";
import { command, instanceArguments, yes } from "../../command.ts";

export default command<{ cold?: boolean }, string[]>({
  parameters: {
    flags: { cold: yes("Boot one that is suspended from its disks, and lose what is in its memory") },
    positional: instanceArguments,
  },
  run: (context, { cold }, ...names) =>
    changeInstances(context, names, (client, instance, options) =>
      client.startInstance({ params: { instance }, query: { cold } }, options),
    ),
});
