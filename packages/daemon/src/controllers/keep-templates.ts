import { setTimeout as delay } from "node:timers/promises";
import { BerthError, type Event } from "@berth/api";
import { ownBounds, reasonNotToMake } from "../core/template-upkeep.ts";
import { waitForOperation } from "../operations/wait.ts";
import { followEvents, lastEventSeq } from "../store/events.ts";
import { readImage } from "../store/images.ts";
import { readInstance } from "../store/instances.ts";
import { findTemplate } from "../store/templates.ts";
import { deleteTemplateBy } from "../workflows/delete-template.ts";
import { findUselessTemplates } from "../workflows/find-useless-templates.ts";
import { requestTemplate } from "../workflows/request-template.ts";
import type { Services } from "../workflows/services.ts";
import { templatePlace } from "../workflows/template-place.ts";
import type { ControllerLog } from "./controller.ts";

const hourMs = 3_600_000;

/** What the controller of templates works with. */
export interface KeepTemplatesOptions {
  readonly services: Services;
  readonly nodeId: string;
  readonly dataDir: string;
  /** Whether templates are made although nobody asked for them. */
  readonly automatic: boolean;
  readonly log: ControllerLog;
}

/**
 * Has a template made when an instance had to boot for want of one, once that instance was served; and has those deleted that are of no use any more: once an hour, and
 * when an image was deleted.
 */
export async function keepTemplates(options: KeepTemplatesOptions, signal: AbortSignal): Promise<void> {
  const { services, log } = options;
  const after = await lastEventSeq(services.store.queries);
  const logged = (work: Promise<void>, message: string) =>
    work.catch((error: unknown) => {
      if (!signal.aborted) log.error({ err: error }, message);
    });
  const prune = () => logged(pruneTemplates(options), "useless templates could not be deleted");
  const keepPruning = async () => {
    while (!signal.aborted) {
      await prune();
      await delay(hourMs, undefined, { signal }).catch(() => undefined);
    }
  };
  const pruning = keepPruning();
  try {
    for await (const event of followEvents(services.store, { after }, signal)) {
      if (event.type === "image.deleted") await prune();
      const id = options.automatic ? launchedIn(event) : undefined;
      if (id) await logged(makeTemplateFor(options, id, signal), "a template could not be asked for");
    }
  } finally {
    await pruning;
  }
}

/** The instance that a launch has just made. */
function launchedIn({ type, subject, data: { target } }: Event): string | undefined {
  if (type !== "operation.succeeded" || subject.name !== "instance.create") return undefined;
  return typeof target === "object" && target !== null && "id" in target ? String(target.id) : undefined;
}

/** Has the template of an instance's shape made, unless there is one or it is not the time for it; one after another, so resolves when it is made. */
async function makeTemplateFor(options: KeepTemplatesOptions, instanceId: string, signal: AbortSignal): Promise<void> {
  const { services, nodeId, dataDir } = options;
  const { store, host } = services;
  const instance = await readInstance(store.queries, instanceId);
  if (!instance || instance.nodeId !== nodeId) return;
  if (instance.spec.warm !== "auto" || instance.status.start?.mode !== "cold") return;
  const digest = (await readImage(store.queries, instance.imageId))?.contentDigest;
  const place = digest ? await templatePlace(services, instance, digest) : undefined;
  if (!place) return;
  const found = await findTemplate(store.queries, place);
  const reason = reasonNotToMake({
    before: found ? { state: found.template.state, ...found.history } : null,
    now: await store.now(),
    memoryMib: instance.spec.memoryMib,
    memoryAvailableMib: (await host.facts()).memoryAvailableMib,
    diskFreeMib: (await host.files.freeBytes(dataDir)) / 2 ** 20,
  });
  if (reason !== undefined) return;
  const request = { place, nodeId, image: instance.image, requestedBy: "keep-templates" };
  const { operationId } = await store.transaction((tx) => requestTemplate(tx, request));
  if (operationId) await waitForOperation(store, operationId, Number.POSITIVE_INFINITY, signal);
}

async function pruneTemplates({ services, nodeId }: KeepTemplatesOptions): Promise<void> {
  for (const { template } of await findUselessTemplates(services, { nodeId }, ownBounds)) {
    try {
      await services.store.transaction((tx) => deleteTemplateBy(tx, template, "keep-templates"));
    } catch (error) {
      // Somebody is about to delete it.
      if (!(error instanceof BerthError && error.code === "busy")) throw error;
    }
  }
}
