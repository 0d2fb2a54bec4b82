import type { Template } from "@berth/api";
import type { NewEvent } from "../store/events.ts";

/** The event that tells of a template. */
export function templateEvent(
  { id, image, project }: Pick<Template, "id" | "image" | "project">,
  type: string,
  operationId: string,
  data: NewEvent["data"] = {},
): NewEvent {
  return { type, project, subject: { kind: "template", id, name: image }, operationId, data };
}
