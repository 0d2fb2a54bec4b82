import { command, instanceArgument } from "../../command.ts";
import { attachConsole } from "../../terminal.ts";

export default command<Record<never, never>, [string]>({
  description: "Everything typed goes to the guest. Ctrl-] leaves; the instance goes on.",
  parameters: { positional: { kind: "tuple", parameters: [instanceArgument] } },
  async run(context, _flags, instance) {
    if (context.outside.stdin.isTTY) context.out.say(`The console of ${instance}. Ctrl-] leaves.`);
    await attachConsole(context, instance);
    if (context.json) context.print({ instance, ended: true }, () => "");
  },
});
