import { BerthError, type Instance } from "@berth/api";
import type { InstanceRun } from "../core/instance-run.ts";
import type { CreateInputs } from "../drivers/driver.ts";
import { describeDisk } from "../storage/qcow2.ts";
import { diskPath } from "./instance-paths.ts";
import { macAddress } from "./mac-address.ts";
import type { Services } from "./services.ts";

/** What the driver is told of an instance's machine: the one place where a run becomes hardware. */
export async function machineInputs(services: Services, instance: Instance, run: InstanceRun): Promise<CreateInputs> {
  const { folders, network, kit } = services;
  const { spec } = instance;
  const { vmPath, user } = await folders.create(instance.id);
  if (!kit) throw new BerthError("host_program_failed", "The guest kit has not been built; npm start builds it.");
  const wished = spec.interfaces.map(({ name, network: kind }, index) => ({
    name,
    network: kind,
    mac: macAddress(instance.id, index),
    // Published ports lead to the first interface.
    forwards: index === 0 ? run.ports : [],
  }));
  const { nics, launcher } = await network.attach(wished);
  return {
    owner: services.ownerOf(instance.id),
    name: run.name,
    cpus: run.cpus,
    memoryMib: run.memoryMib,
    disks: spec.disks.map(({ name }) => describeDisk(name, diskPath(vmPath, name))),
    nics,
    kit,
    labels: instance.labels,
    user,
    launcher,
  };
}
