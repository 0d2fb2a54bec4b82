import type { Instance } from "@berth/api";
import { command, instanceArgument } from "../../command.ts";
import { formatPort } from "../../ports.ts";
import { describeSchedule } from "../../snapshot-schedule.ts";
import { howItBegan } from "../../start-mode.ts";
import { age, bytes, facts, mebibytes, moment } from "../../text.ts";

export default command<Record<never, never>, [string]>({
  parameters: { positional: { kind: "tuple", parameters: [instanceArgument] } },
  async run(context, _flags, name) {
    const client = await context.client();
    const instance = await client.getInstance({ params: { instance: name } });
    context.print(instance, () => facts(describe(instance, Date.now())));
  },
});

function describe({ status, spec, ...instance }: Instance, now: number): [string, string][] {
  const optional: [string, string | null | undefined | false][] = [
    ["Reason", status.reason],
    ["Pending", status.pending.length > 0 ? `${status.pending.join(", ")} (at the next start)` : ""],
    ["Restart", spec.restart === "no" ? "" : spec.restart],
    ["Restarts", restartsOf(status.restarts, now)],
    ["Exit code", status.exitCode?.toString()],
    ["Up", isOn(status.phase) && status.startedAt && age(status.startedAt, now)],
    ["Began", status.start && howItBegan(status.start)],
    ["Memory on disk", status.memoryBytes === null ? "" : bytes(status.memoryBytes)],
    ["Autosuspend", spec.autosuspend && `when idle for ${spec.autosuspend.idleSeconds} s`],
    ["From", instance.origin && originIn(instance.origin)],
    ["Snapshots", spec.snapshots && describeSchedule(spec.snapshots)],
    ["Next snapshot", spec.snapshots && nextSnapshot(status.snapshots, now)],
    ["Operation", instance.operationId],
    ["Ports", status.ports.map(formatPort).join(", ")],
    [
      "Labels",
      Object.entries(instance.labels)
        .map(([key, value]) => `${key}=${value}`)
        .join(", "),
    ],
    ["Environment", Object.keys(spec.env).join(", ")],
    ["Entrypoint", spec.entrypoint && JSON.stringify(spec.entrypoint)],
    ["Command", spec.command && JSON.stringify(spec.command)],
  ];
  return [
    ["Name", instance.name],
    ["Id", instance.id],
    ["Image", instance.image],
    ["Phase", status.phase],
    ["Ready", status.ready ? "yes" : "no"],
    ["CPUs", String(spec.cpus)],
    ["Memory", mebibytes(spec.memoryMib)],
    ["Disk", spec.disks.map((disk) => mebibytes(disk.sizeMib)).join(", ")],
    ["Location", instance.location],
    ["Created", moment(instance.createdAt, now)],
    ...optional.flatMap(([name, value]): [string, string][] => (value ? [[name, value]] : [])),
  ];
}

function originIn(origin: NonNullable<Instance["origin"]>): string {
  const { name } = origin.instance;
  return origin.kind === "fork" ? `a fork of ${name}` : `the snapshot ${origin.snapshot.name} of ${name}`;
}

function isOn(phase: Instance["status"]["phase"]): boolean {
  return phase === "running" || phase === "starting" || phase === "stopping";
}

/** When its schedule takes the next snapshot, and how the last one went wrong. */
function nextSnapshot(snapshots: Instance["status"]["snapshots"], now: number): string {
  if (!snapshots) return "";
  const { nextAt, failures, reason } = snapshots;
  const when = Date.parse(nextAt) <= now ? "due" : `in ${age(new Date(now).toISOString(), Date.parse(nextAt))}`;
  return failures === 0 ? when : `${when}; failed ${failures === 1 ? "once" : `${failures} times`}: ${reason}`;
}

/** How often its policy has started it, and when it will next. */
function restartsOf({ count, nextAt }: Instance["status"]["restarts"], now: number): string {
  const seconds = nextAt === null ? 0 : Math.max(0, Math.ceil((Date.parse(nextAt) - now) / 1000));
  const next = nextAt === null ? "" : ` (the next in ${seconds} s)`;
  return count > 0 || next ? `${count}${next}` : "";
}
