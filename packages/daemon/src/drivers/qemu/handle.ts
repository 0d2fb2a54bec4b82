import { join } from "node:path";
import { z } from "zod";
import type { CreateInputs, Handle, OwnerMark } from "../driver.ts";
import type { MachineSockets } from "./command-line.ts";

/** What the platform keeps for this driver: only whose machine it is. Everything else can be read or observed on the node. */
const HandleV1 = z.object({ version: z.literal(1), installationId: z.string(), instanceId: z.string() });

const HostUserRecord = z.object({ uid: z.number().int(), gid: z.number().int() });

const Inputs = z.object({
  owner: z.object({ installationId: z.string(), instanceId: z.string() }),
  name: z.string(),
  cpus: z.number().int(),
  memoryMib: z.number().int(),
  disks: z.array(
    z.object({ name: z.string(), path: z.string(), format: z.enum(["qcow2", "raw"]), readOnly: z.boolean() }),
  ),
  nics: z.array(
    z.object({
      name: z.string(),
      mac: z.string(),
      network: z.literal("user"),
      forwards: z.array(
        z.object({
          hostAddress: z.string(),
          hostPort: z.number().int(),
          guestPort: z.number().int(),
          protocol: z.enum(["tcp", "udp"]),
        }),
      ),
      netdev: z.string(),
    }),
  ),
  kit: z
    .object({
      kernelPath: z.string(),
      initrdPath: z.string(),
      buildId: z.string(),
      memoryToolPath: z.string().optional(),
    })
    .nullable(),
  user: HostUserRecord.nullable(),
  launcher: z.array(z.string()),
}) satisfies z.ZodType<CreateInputs>;

/** `machine.json`: what the machine is made of, as it was asked for. Its presence is what makes the machine exist. */
export const MachineRecord = z.object({ version: z.literal(1), inputs: Inputs });
export type MachineRecord = z.infer<typeof MachineRecord>;

const Identity = z.object({ pid: z.number().int(), startTicks: z.string(), bootId: z.string() });

/**
 * `run.json`: the present or last run. It is written before anything is started, and again with each process known, so that after a crash it
 * is clear that something may run although its process was never written down.
 */
export const RunRecord = z.object({
  version: z.literal(1),
  startedAt: z.number(),
  bootId: z.string(),
  hypervisor: Identity.nullable(),
  /** The launcher around it, and those who write its logs: they end by themselves with it. */
  helpers: z.array(Identity),
});
export type RunRecord = z.infer<typeof RunRecord>;

export function makeHandle(owner: OwnerMark): Handle {
  return { version: 1, installationId: owner.installationId, instanceId: owner.instanceId };
}

/** Whose machine a handle stands for. Throws for one that this driver never made. */
export function readHandle(handle: Handle): OwnerMark {
  const { installationId, instanceId } = HandleV1.parse(handle);
  return { installationId, instanceId };
}

/** Where a machine has what on the node. `vm` belongs to the user that the hypervisor runs as; the rest is the daemon's own. */
export interface MachinePaths {
  readonly folder: string;
  readonly vm: string;
  readonly machineRecord: string;
  readonly runRecord: string;
  readonly sockets: MachineSockets;
  /** Those of a sibling: its monitor, and where the machine hands its memory over. */
  readonly siblingSockets: { readonly qmp: string; readonly hop: string };
  /** What a sibling says; while it is there, one may run. */
  readonly siblingLog: string;
  /** Where a sibling writes the devices' state to. */
  readonly stateSocket: string;
  /** Below `vm`: a folder per stream. */
  readonly logs: { readonly console: string; readonly control: string; readonly machine: string };
}

export function machinePaths(instancesDir: string, instanceId: string): MachinePaths {
  const folder = join(instancesDir, instanceId);
  const vm = join(folder, "vm");
  return {
    folder,
    vm,
    machineRecord: join(folder, "machine.json"),
    runRecord: join(folder, "run.json"),
    sockets: {
      qmp: join(vm, "qmp.sock"),
      work: join(vm, "work.sock"),
      console: join(vm, "console.sock"),
      control: join(vm, "control.sock"),
      channel: join(vm, "channel.sock"),
    },
    siblingSockets: { qmp: join(vm, "sib.sock"), hop: join(vm, "hop.sock") },
    siblingLog: join(folder, "sibling.log"),
    stateSocket: join(folder, "state.sock"),
    logs: { console: "log/console", control: "log/control", machine: "log/machine" },
  };
}
