import { changeInstances } from "../../change-instances.ts";
import { command, instanceArguments } from "../../command.ts";

export default command<Record<never, never>, string[]>({
  description:
    "Their memory goes to the node's disk and their power off. berth resume lets them go on from where they were; connections that are open end.",
  parameters: { positional: instanceArguments },
  run: (context, _flags, ...names) =>
    changeInstances(context, names, (client, instance, options) =>
      client.suspendInstance({ params: { instance } }, options),
    ),
});
