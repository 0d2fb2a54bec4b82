import { decideTemplate, type ObservedTemplate, type TemplateStepName } from "../core/decide-template.ts";
import {
  type Claimed,
  type Decision,
  inOrder,
  type Journal,
  type Outcome,
  type Workflow,
} from "../operations/workflow.ts";
import { appendEvent } from "../store/events.ts";
import type { Transaction } from "../store/store.ts";
import { deleteTemplate, failTemplate, readTemplate, updateTemplate } from "../store/templates.ts";
import { observeTemplate } from "./observe-template.ts";
import type { Services } from "./services.ts";
import { awaitPrepared } from "./steps/await-prepared.ts";
import { bootTemplate } from "./steps/boot-template.ts";
import { checkTemplateDisks } from "./steps/check-template-disks.ts";
import { createTemplateDisks } from "./steps/create-template-disks.ts";
import { createTemplateMachine } from "./steps/create-template-machine.ts";
import { deleteTemplateDisks } from "./steps/delete-template-disks.ts";
import { destroyTemplateMachine } from "./steps/destroy-template-machine.ts";
import { powerOffTemplate } from "./steps/power-off-template.ts";
import { removeTemplate } from "./steps/remove-template.ts";
import { saveTemplate } from "./steps/save-template.ts";
import { templateEvent } from "./template-event.ts";

interface Seen {
  readonly observed: ObservedTemplate;
  readonly heard: boolean;
}

/** The operations of a template: it is made from a machine that boots, is saved and is thrown away, and it is deleted. */
export function templateWorkflows(services: Services): readonly Workflow<Seen | undefined>[] {
  const remove = [removeTemplate(services)];
  return [
    {
      type: "template.create",
      steps: [
        createTemplateDisks(services),
        createTemplateMachine(services),
        bootTemplate(services),
        awaitPrepared(services),
        saveTemplate(services),
        powerOffTemplate(services),
        checkTemplateDisks(services),
        destroyTemplateMachine(services),
        deleteTemplateDisks(services),
      ],
      inspect: async (operation) => {
        const template = await readTemplate(services.store.queries, operation.target.id);
        return template && observeTemplate(services, template);
      },
      decide: ({ observed, journal }) => decide(observed, journal),
      settle: settleCreate,
    },
    {
      type: "template.delete",
      steps: remove,
      inspect: async () => undefined,
      decide: ({ journal }) => inOrder(remove, journal),
      settle: settleDelete,
    },
  ];
}

function decide(seen: Seen | undefined, journal: Journal): Decision {
  if (!seen) return { done: true };
  const finished = new Set<TemplateStepName>();
  for (const [name, entry] of journal) if (entry.status === "succeeded") finished.add(name as TemplateStepName);
  // What an earlier daemon heard of the guest died with it: it is listened to anew, unless its time has passed.
  if (!seen.heard && journal.get("await-prepared")?.result !== "in vain") finished.delete("await-prepared");
  return decideTemplate(seen.observed, finished);
}

/** A template that was made is there for all; one that could not be made says why and is tried again later; one that was given up is forgotten. */
async function settleCreate(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const template = await readTemplate(tx, operation.target.id);
  if (!template) return;
  if (outcome.status === "succeeded") {
    await updateTemplate(tx, template.id, { state: "ready", failures: 0 });
    return appendEvent(tx, templateEvent(template, "template.ready", operation.id));
  }
  if (outcome.status === "cancelled") {
    await deleteTemplate(tx, template.id);
    return appendEvent(tx, templateEvent(template, "template.deleted", operation.id));
  }
  const reason = outcome.error.message;
  await failTemplate(tx, template.id, reason);
  appendEvent(tx, templateEvent(template, "template.failed", operation.id, { reason }));
}

async function settleDelete(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const template = await readTemplate(tx, operation.target.id);
  if (!template || outcome.status !== "succeeded") return;
  await deleteTemplate(tx, template.id);
  appendEvent(tx, templateEvent(template, "template.deleted", operation.id));
}
