import { BerthError, type Instance, type InstanceSpec } from "@berth/api";
import type { PortForward } from "../core/descriptions.ts";
import type { InstanceRun } from "../core/instance-run.ts";
import type { CreateInputs } from "../drivers/driver.ts";
import { describeDisk } from "../storage/qcow2.ts";
import { diskPath } from "./instance-paths.ts";
import { macAddress } from "./mac-address.ts";
import type { Services } from "./services.ts";

/** A machine as it is wished for. */
export interface MachineWish {
  /** Whose it is: an instance's id, or that of a template. */
  readonly ownerId: string;
  readonly name: string;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly disks: readonly string[];
  readonly interfaces: InstanceSpec["interfaces"];
  /** The published ports, with the host ports they really have. */
  readonly ports: readonly PortForward[];
  readonly labels: Readonly<Record<string, string>>;
}

/** What the driver is told of a machine: the one place where a wish becomes hardware. Its folder is made where there is none. */
export async function machineInputs(services: Services, wish: MachineWish): Promise<CreateInputs> {
  const { folders, network, kit } = services;
  const { ownerId, name, cpus, memoryMib, labels } = wish;
  const { vmPath, user } = await folders.create(ownerId);
  if (!kit) throw new BerthError("host_program_failed", "The guest kit has not been built; npm start builds it.");
  const wished = wish.interfaces.map((card, index) => ({
    name: card.name,
    network: card.network,
    mac: macAddress(ownerId, index),
    // Published ports lead to the first interface.
    forwards: index === 0 ? wish.ports : [],
  }));
  const { nics, launcher } = await network.attach(wished);
  return {
    owner: services.ownerOf(ownerId),
    name,
    cpus,
    memoryMib,
    disks: wish.disks.map((disk) => describeDisk(disk, diskPath(vmPath, disk))),
    nics,
    kit,
    labels,
    user,
    launcher,
  };
}

/** The machine of an instance in one run. */
export function instanceMachine(services: Services, instance: Instance, run: InstanceRun): Promise<CreateInputs> {
  const { id, labels, spec } = instance;
  const { name, cpus, memoryMib, ports } = run;
  const disks = spec.disks.map((disk) => disk.name);
  return machineInputs(services, {
    ownerId: id,
    name,
    cpus,
    memoryMib,
    disks,
    interfaces: spec.interfaces,
    ports,
    labels,
  });
}
