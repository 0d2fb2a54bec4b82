import type { Workflow } from "../operations/workflow.ts";
import { archiveWorkflows } from "./archive.ts";
import { forkWorkflow } from "./fork.ts";
import { imageWorkflows } from "./image.ts";
import { instanceWorkflows } from "./instance.ts";
import { poolWorkflows } from "./pool.ts";
import type { Services } from "./services.ts";
import { snapshotWorkflows } from "./snapshot.ts";
import { templateWorkflows } from "./template.ts";

/** What every operation does, whatever it works on. */
export function allWorkflows(services: Services): readonly Workflow[] {
  return [
    ...imageWorkflows(services),
    ...templateWorkflows(services),
    ...poolWorkflows(services),
    ...instanceWorkflows(services),
    forkWorkflow(services),
    ...archiveWorkflows(services),
    ...snapshotWorkflows(services),
  ];
}
