import { command, snapshotArgument, text, yes } from "../../command.ts";
import { follow } from "../../follow.ts";

type Flags = {
  instance?: string;
  force?: boolean;
  discard?: boolean;
  diskOnly?: boolean;
  yes?: boolean;
};

export default command<Flags, [string]>({
  description:
    "Puts an instance's disks back to what they were. One that runs is stopped for it and started again; with a snapshot's memory it goes on where it was. What its disks are now is kept as a snapshot, " +
    "whose name is told, unless --discard is given. Asks first when that is given or the instance runs.",
  parameters: {
    flags: {
      instance: text("The instance; the one it was made of when not given", "NAME"),
      force: yes("Stop it without a question when it runs"),
      discard: yes("Do not keep what its disks are now"),
      diskOnly: yes("Leave the snapshot's memory alone: the instance boots, or stays off"),
      yes: yes("Do not ask"),
    },
    aliases: { f: "force", y: "yes" },
    positional: { kind: "tuple", parameters: [snapshotArgument] },
  },
  async run(context, { instance: wanted, force, discard, diskOnly, yes }, name) {
    const client = await context.client();
    const snapshot = await client.getSnapshot({ params: { snapshot: name } });
    const params = { instance: wanted ?? snapshot.instanceId };
    const before = await client.getInstance({ params });
    const runs = before.status.phase === "running" || before.status.phase === "starting";
    if (runs && !force)
      await context.out.confirm(`${before.name} runs; it is stopped and started again.`, before.name, yes);
    if (discard) await context.out.confirm(`What ${before.name} has on its disks now goes.`, before.name, yes);
    const body = {
      instance: before.id,
      force: runs,
      ...(discard ? { discard } : {}),
      ...(diskOnly ? { diskOnly } : {}),
    };
    const { instance, operation, kept } = await client.restoreSnapshot(
      { params: { snapshot: snapshot.id }, body },
      { idempotencyKey: crypto.randomUUID() },
    );
    await follow(context, operation);
    if (kept) context.out.say(`What was on its disks before is kept as ${kept.name}.`);
    const after = await client.getInstance({ params: { instance: instance.id } });
    context.print({ instance: after, kept }, () => `${after.name}\n`);
  },
});
