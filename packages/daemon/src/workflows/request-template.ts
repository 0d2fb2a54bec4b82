import type { Template } from "@berth/api";
import { newId } from "../core/ids.ts";
import { startOperation } from "../operations/start.ts";
import { appendEvent } from "../store/events.ts";
import { lockResources } from "../store/operation-claims.ts";
import { resourceOf } from "../store/operations.ts";
import type { Transaction } from "../store/store.ts";
import { findTemplate, insertTemplate, shapeKey, type TemplatePlace, updateTemplate } from "../store/templates.ts";
import { templateEvent } from "./template-event.ts";

export interface TemplateRequest {
  readonly place: TemplatePlace;
  readonly nodeId: string;
  /** The image's reference, for people. */
  readonly image: string;
  /** The token or controller that asks. */
  readonly requestedBy: string;
}

/** The template of a shape: the one that is there or being made, else a new one, or one that failed made anew. Its operation says how far it is. */
export async function requestTemplate(tx: Transaction, request: TemplateRequest): Promise<Template> {
  const { place, nodeId, image, requestedBy } = request;
  const shape = resourceOf("template-shape", `${place.project}/${place.location}/${shapeKey(place.shape)}`);
  await lockResources(tx, [shape]);
  const before = await findTemplate(tx, place);
  if (before && before.template.state !== "failed") return before.template;
  const id = before?.template.id ?? newId("template");
  const operation = await startOperation(tx, {
    type: "template.create",
    project: place.project,
    target: { kind: "template", id, name: image },
    claims: [shape, resourceOf("template", id)],
    input: {},
    nodeId,
    requestedBy,
  });
  appendEvent(tx, templateEvent({ id, image, project: place.project }, "template.created", operation.id));
  return before
    ? updateTemplate(tx, id, { state: "building", reason: "", operationId: operation.id })
    : insertTemplate(tx, { ...place, id, nodeId, image, operationId: operation.id });
}
