import type { Snapshot } from "@berth/api";
import { command, snapshotArgument } from "../../command.ts";
import { age, bytes, facts, mebibytes, moment } from "../../text.ts";

export default command<Record<never, never>, [string]>({
  parameters: { positional: { kind: "tuple", parameters: [snapshotArgument] } },
  async run(context, _flags, name) {
    const client = await context.client();
    const snapshot = await client.getSnapshot({ params: { snapshot: name } });
    context.print(snapshot, () => facts(describe(snapshot, Date.now())));
  },
});

const consistencies: Readonly<Record<Snapshot["consistency"], string>> = {
  stopped: "the machine was off",
  frozen: "the machine ran, its file systems frozen",
  memory: "the machine ran, and its memory goes with them",
  crash: "as after a power cut",
};

function describe(snapshot: Snapshot, now: number): [string, string][] {
  const { verification, spec, disks, createdAt, operationId } = snapshot;
  const verified = verification.at === null ? "never" : `${verification.verdict}, ${age(verification.at, now)} ago`;
  const optional: [string, string | null][] = [
    ["Damage", verification.reason],
    ["Operation", operationId],
  ];
  return [
    ["Name", snapshot.name],
    ["Id", snapshot.id],
    ["Instance", `${snapshot.instanceName} (${snapshot.instanceId})`],
    ["State", snapshot.state],
    ["Kind", snapshot.kind],
    ["Made", snapshot.automatic ? "by its instance's schedule" : "by hand"],
    ["Disks were", consistencies[snapshot.consistency]],
    ["Image", snapshot.image],
    ["CPUs", String(spec.cpus)],
    ["Memory", mebibytes(spec.memoryMib)],
    ["Disks", disks.map(({ name, sizeBytes }) => `${name} ${mebibytes(sizeBytes / 2 ** 20)}`).join(", ")],
    ...(snapshot.kind === "memory" ? [["Saved memory", bytes(snapshot.memoryBytes)] as [string, string]] : []),
    ["Own", bytes(snapshot.ownBytes)],
    ["Shared", bytes(snapshot.sharedBytes)],
    ["Verified", verified],
    ["Created", moment(createdAt, now)],
    ...optional.flatMap(([name, value]): [string, string][] => (value ? [[name, value]] : [])),
  ];
}
