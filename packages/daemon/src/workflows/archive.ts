import { type Claimed, inOrder, type Outcome, type Step, type Workflow } from "../operations/workflow.ts";
import { deleteArchive, readArchive } from "../store/archives.ts";
import type { Transaction } from "../store/store.ts";
import { appendArchiveEvent } from "./archive-record.ts";
import { ExportInput } from "./export-input.ts";
import type { Services } from "./services.ts";
import { removeArchive } from "./steps/remove-archive.ts";
import { writeArchive } from "./steps/write-archive.ts";
import { writeSnapshotArchive } from "./steps/write-snapshot-archive.ts";

/** The operations that make and remove archives: plain lists of steps. */
export function archiveWorkflows(services: Services): readonly Workflow[] {
  return [
    { ...listed("instance.export", [writeArchive(services)]), settle: settleExport },
    { ...listed("snapshot.export", [writeSnapshotArchive(services)]), settle: settleExport },
    { ...listed("archive.delete", [removeArchive(services)]), settle: settleDelete },
  ];
}

function listed(type: string, steps: readonly Step[]): Workflow {
  return { type, steps, inspect: async () => undefined, decide: ({ journal }) => inOrder(steps, journal) };
}

/** An archive that could not be written never was. */
async function settleExport(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const archive = await readArchive(tx, ExportInput.parse(operation.input).archiveId);
  if (!archive) return;
  const data = { [operation.target.kind]: operation.target.name };
  if (outcome.status === "succeeded") return appendArchiveEvent(tx, archive, "archive.ready", operation.id, data);
  await deleteArchive(tx, archive.id);
  appendArchiveEvent(tx, archive, "archive.deleted", operation.id, data);
}

async function settleDelete(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const archive = await readArchive(tx, operation.target.id);
  if (!archive || outcome.status !== "succeeded") return;
  await deleteArchive(tx, archive.id);
  appendArchiveEvent(tx, archive, "archive.deleted", operation.id);
}
