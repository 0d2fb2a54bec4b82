import type { Instance } from "@berth/api";
import { BerthError } from "@berth/api";
import type { InstanceStepName } from "../../core/decide-instance.ts";
import type { Handle } from "../../drivers/driver.ts";
import type { Step, StepContext } from "../../operations/workflow.ts";
import { readInstance } from "../../store/instances.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";

/** A step of the instance loop; its name is one that `decideInstance` knows. */
export type InstanceStep = Step & { readonly name: InstanceStepName };

/** The instance an operation works on, as it is now. */
export async function targetInstance(services: Services, context: StepContext): Promise<Instance> {
  const instance = await readInstance(services.store.queries, context.operation.target.id);
  if (!instance) throw new BerthError("not_found", `Instance ${context.operation.target.name} is gone.`);
  return instance;
}

/** The driver's handle, for steps that come after the machine was made. */
export async function requireHandle(services: Services, instance: Instance): Promise<Handle> {
  const handle = await findHandle(services, instance);
  if (!handle) throw new BerthError("internal", `The driver has nothing of instance ${instance.name}.`);
  return handle;
}
