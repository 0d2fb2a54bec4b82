import { changeInstances } from "../../change-instances.ts";
import { command, yes } from "../../command.ts";
import { UsageError } from "../../errors.ts";
import { listAll } from "../../pages.ts";

const off = ["stopped", "failed", "deleting"];

export default command<{ all?: boolean; yes?: boolean }>({
  description: "Stops every instance; their disks stay, and berth start brings them back. berthd goes on.",
  parameters: {
    flags: { all: yes("Yes, all of them; required"), yes: yes("Do not ask") },
    aliases: { y: "yes" },
  },
  async run(context, flags) {
    if (!flags.all)
      throw new UsageError("berth down stops every instance: say so with --all.", "For some of them: berth stop NAME…");
    const client = await context.client();
    const instances = await listAll((page) => client.listInstances({ query: page }));
    const running = instances.filter(({ status }) => !off.includes(status.phase));
    if (running.length === 0) return context.print([], () => "");
    const names = running.map(({ name }) => name);
    await context.out.confirm(`This stops ${names.length} instances: ${names.join(", ")}.`, "yes", flags.yes);
    await changeInstances(context, names, (client, instance, options) =>
      client.stopInstance({ params: { instance } }, options),
    );
  },
});
