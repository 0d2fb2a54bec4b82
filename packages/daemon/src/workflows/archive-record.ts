import type { Operation } from "@berth/api";
import { startOperation } from "../operations/start.ts";
import type { StoredArchive } from "../store/archives.ts";
import { appendEvent, type NewEvent } from "../store/events.ts";
import { resourceOf } from "../store/operations.ts";
import type { Transaction } from "../store/store.ts";

/** Tells of an archive. */
export function appendArchiveEvent(
  tx: Transaction,
  { id, name, project }: Pick<StoredArchive, "id" | "name" | "project">,
  type: string,
  operationId: string | null,
  data: NewEvent["data"] = {},
): void {
  appendEvent(tx, { type, project, subject: { kind: "archive", id, name }, operationId, data });
}

/** Begins to delete an archive; who writes it is cancelled. Rejects with `busy` while another delete has it. */
export function startArchiveDelete(
  tx: Transaction,
  { id, name, project, nodeId }: StoredArchive,
  requestedBy: string,
  queue = false,
): Promise<Operation> {
  return startOperation(tx, {
    type: "archive.delete",
    project,
    target: { kind: "archive", id, name },
    claims: [resourceOf("archive", id)],
    input: {},
    nodeId,
    requestedBy,
    queue,
    rank: 2,
  });
}
