import { changeInstances } from "../../change-instances.ts";
import { command, instanceArguments, yes } from "../../command.ts";

export default command<{ force?: boolean; snapshots?: boolean }, string[]>({
  description: "Their snapshots stay, unless --snapshots is given.",
  parameters: {
    flags: {
      force: yes("Also one that is running or busy"),
      snapshots: yes("Delete their snapshots, too"),
    },
    aliases: { f: "force" },
    positional: instanceArguments,
  },
  run: (context, { force, snapshots }, ...names) =>
    changeInstances(context, names, async (client, instance, options) => {
      const { items } = await client.listSnapshots({ query: { instance, limit: 500 } });
      const change = await client.deleteInstance({ params: { instance }, query: { force, snapshots } }, options);
      if (items.length > 0 && !snapshots) context.out.say(staying(change.instance.name, items.length));
      return change;
    }),
});

function staying(name: string, count: number): string {
  return count === 1 ? `1 snapshot of ${name} stays.` : `${count} snapshots of ${name} stay.`;
}
