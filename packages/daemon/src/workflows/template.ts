import { decideTemplate, type ObservedTemplate, type TemplateStepName } from "../core/decide-template.ts";
import {
  type Claimed,
  type Decision,
  inOrder,
  type Journal,
  type Outcome,
  type Step,
  type Workflow,
} from "../operations/workflow.ts";
import { appendEvent } from "../store/events.ts";
import type { Transaction } from "../store/store.ts";
import { deleteTemplate, failTemplate, readTemplate, updateTemplate } from "../store/templates.ts";
import { finishedSteps, observeMachine } from "./blank-machine.ts";
import type { Services } from "./services.ts";
import { awaitPrepared } from "./steps/await-prepared.ts";
import { bootTemplate } from "./steps/boot-template.ts";
import { createBlankDisks } from "./steps/create-blank-disks.ts";
import { createBlankMachine } from "./steps/create-blank-machine.ts";
import { deleteBlankDisks } from "./steps/delete-blank-disks.ts";
import { destroyBlankMachine } from "./steps/destroy-blank-machine.ts";
import { keepTemplateDisks } from "./steps/keep-template-disks.ts";
import { powerOffBlank } from "./steps/power-off-blank.ts";
import { removeTemplate } from "./steps/remove-template.ts";
import { saveTemplate } from "./steps/save-template.ts";
import { templateEvent } from "./template-event.ts";

interface Seen {
  readonly observed: ObservedTemplate;
  readonly heard: boolean;
}

/** The operations of a template: it is made from a machine that boots, is saved and is thrown away, and it is deleted. */
export function templateWorkflows(services: Services): readonly Workflow<Seen | undefined>[] {
  const create: readonly (Step & { readonly name: TemplateStepName })[] = [
    createBlankDisks(services),
    createBlankMachine(services),
    bootTemplate(services),
    awaitPrepared(services),
    saveTemplate(services),
    powerOffBlank(services),
    keepTemplateDisks(services),
    destroyBlankMachine(services),
    deleteBlankDisks(services),
  ];
  const remove = [removeTemplate(services)];
  return [
    {
      type: "template.create",
      steps: create,
      inspect: async (operation) => {
        const template = await readTemplate(services.store.queries, operation.target.id);
        if (!template) return undefined;
        const { heard, ...machine } = await observeMachine(services, template);
        const saved = await services.host.files.exists(services.templates.memoryPath(template.id));
        return { heard, observed: { ...machine, saved } };
      },
      decide: ({ observed, journal }) => decide(observed, journal),
      settle: settleCreate,
    },
    {
      type: "template.delete",
      steps: remove,
      inspect: async () => undefined,
      decide: ({ journal }) => inOrder(remove, journal),
      settle: (tx, operation, outcome) => settleDelete(services, tx, operation, outcome),
    },
  ];
}

function decide(seen: Seen | undefined, journal: Journal): Decision {
  return seen ? decideTemplate(seen.observed, finishedSteps(seen.heard, journal)) : { done: true };
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

/** One that was given up when its memory was gone already has happened all the same: nothing could be cloned from what is left. */
async function settleDelete(
  { host, templates }: Services,
  tx: Transaction,
  operation: Claimed,
  outcome: Outcome,
): Promise<void> {
  const template = await readTemplate(tx, operation.target.id);
  if (!template) return;
  if (outcome.status !== "succeeded" && (await host.files.exists(templates.memoryPath(template.id)))) return;
  await deleteTemplate(tx, template.id);
  appendEvent(tx, templateEvent(template, "template.deleted", operation.id));
}
