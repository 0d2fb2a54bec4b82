import { BerthError } from "@berth/api";
import { describeDisk } from "../../storage/qcow2.ts";
import { updateInstance } from "../../store/instances.ts";
import { diskPath } from "../instance-paths.ts";
import { macAddress } from "../mac-address.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Has the driver make the machine, stopped. */
export function createMachine(services: Services): InstanceStep {
  const { folders, network } = services;
  return {
    name: "create-machine",
    async run(context) {
      const instance = await targetInstance(services, context);
      const { spec, status } = instance;
      const { vmPath, user } = await folders.create(instance.id);
      if (!services.kit)
        throw new BerthError("host_program_failed", "The guest kit has not been built; npm start builds it.");
      const wished = spec.interfaces.map(({ name, network: kind }, index) => ({
        name,
        network: kind,
        mac: macAddress(instance.id, index),
        // Published ports lead to the first interface.
        forwards: index === 0 ? status.ports : [],
      }));
      const { nics, launcher } = await network.attach(wished);
      const handle = await services.driver(instance.location).create({
        owner: services.ownerOf(instance.id),
        name: instance.name,
        cpus: spec.cpus,
        memoryMib: spec.memoryMib,
        disks: spec.disks.map(({ name }) => describeDisk(name, diskPath(vmPath, name))),
        nics,
        kit: services.kit,
        labels: instance.labels,
        user,
        launcher,
      });
      return {
        write: async (tx) => {
          await updateInstance(tx, instance.id, { handle });
        },
      };
    },
    async undo(context) {
      const instance = await targetInstance(services, context);
      const handle = await findHandle(services, instance);
      if (handle) await services.driver(instance.location).destroy(handle);
    },
  };
}
