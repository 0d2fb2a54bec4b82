import type { Pool } from "@berth/api";
import type { NewEvent } from "../store/events.ts";

/** The event that tells of a pool. */
export function poolEvent(
  { id, name, project }: Pick<Pool, "id" | "name" | "project">,
  type: string,
  operationId: string | null,
  data: NewEvent["data"] = {},
): NewEvent {
  return { type, project, subject: { kind: "pool", id, name }, operationId, data };
}
