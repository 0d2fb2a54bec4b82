import { changeInstances } from "../../change-instances.ts";
import { command, yes } from "../../command.ts";
import { UsageError } from "../../errors.ts";
import { listAll } from "../../pages.ts";

const off = ["stopped", "failed", "suspended", "deleting"];

export default command<{ all?: boolean; yes?: boolean }>({
  description:
    "Stops every instance; their disks stay, and berth start brings them back. Those that are suspended stay so. Empties every pool too: berth pool set NAME --size N fills it again. berthd goes on.",
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
    const pools = (await listAll((page) => client.listPools({ query: page }))).filter(({ size }) => size > 0);
    const suspended = instances.filter(({ status }) => status.phase === "suspended").map(({ name }) => name);
    if (suspended.length > 0)
      context.out.say(
        `Suspended, and left so: ${suspended.join(", ")}. berth stop --force loses what is in their memory.`,
      );
    if (running.length === 0 && pools.length === 0) return context.print([], () => "");
    const names = running.map(({ name }) => name);
    const stops =
      names.length > 0
        ? [`stops ${names.length === 1 ? "1 instance" : `${names.length} instances`}: ${names.join(", ")}`]
        : [];
    const empties = pools.length > 0 ? [`empties the pools: ${pools.map(({ name }) => name).join(", ")}`] : [];
    await context.out.confirm(`This ${[...stops, ...empties].join("; ")}.`, "yes", flags.yes);
    for (const { id } of pools) await client.changePool({ params: { pool: id }, body: { size: 0 } });
    await changeInstances(context, names, (client, instance, options) =>
      client.stopInstance({ params: { instance } }, options),
    );
  },
});
