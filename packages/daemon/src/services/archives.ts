import { type Archive, type ArchiveChange, BerthError, type Instance } from "@berth/api";
import type { ArchiveFiles } from "../archives/archive-files.ts";
import { newId } from "../core/ids.ts";
import { startOperation } from "../operations/start.ts";
import type { ChangeOptions, ExportOptions, Scope, Services } from "../server/services.ts";
import { insertArchive, listArchives, readArchive, type StoredArchive, touchArchive } from "../store/archives.ts";
import { findInstance, readInstance } from "../store/instances.ts";
import { lockResources } from "../store/operation-claims.ts";
import { readOperation, resourceOf } from "../store/operations.ts";
import type { Queries, Store, Transaction } from "../store/store.ts";
import { startArchiveDelete } from "../workflows/archive-record.ts";
import type { ExportInput } from "../workflows/export-input.ts";
import { changeOnce, checkGeneration } from "./change.ts";

/** What requests about archives need to know of the node. */
export interface ArchiveRequestContext {
  readonly store: Store;
  readonly archives: ArchiveFiles;
}

/** Archives, as the server asks for them. */
export function archiveServices({ store, archives }: ArchiveRequestContext): Services["archives"] {
  /** The objects of an earlier change as they are now; as they were then, where they are gone. */
  const refresh = async (made: ArchiveChange): Promise<ArchiveChange> => {
    const archive = await readArchive(store.queries, made.archive.id);
    return {
      archive: archive ? toArchive(archive) : made.archive,
      operation: (await readOperation(store.queries, made.operation.id)) ?? made.operation,
    };
  };

  const get = async (scope: Scope, id: string) => toArchive(await find(store.queries, scope, id));

  return {
    async list(scope, query) {
      const { rows, nextCursor } = await listArchives(store.queries, { ...query, project: scope.project });
      return { items: rows.map(toArchive), nextCursor };
    },
    get,
    async export(scope, ref, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestExport(tx, scope, ref, options)));
    },
    async read(scope, id) {
      const archive = await get(scope, id);
      if (archive.state !== "ready") {
        throw new BerthError("busy", `${archive.name} is still being written.`, {
          ...(archive.operationId ? { operationId: archive.operationId } : {}),
        });
      }
      const sizeBytes = await archives.size(id);
      if (sizeBytes === undefined) throw new BerthError("not_found", `The file of archive ${id} is gone.`);
      await touchArchive(store.queries, id);
      return { name: archive.name, tag: id, sizeBytes, read: (start, end) => archives.read(id, start, end) };
    },
    async remove(scope, id, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestRemove(tx, scope, id, options)));
    },
  };
}

function toArchive({ nodeId: _, ...archive }: StoredArchive): Archive {
  return { ...archive, state: archive.sizeBytes === null ? "writing" : "ready" };
}

async function find(queries: Queries, scope: Scope, id: string): Promise<StoredArchive> {
  const archive = await readArchive(queries, id);
  if (archive?.project !== scope.project) throw new BerthError("not_found", `There is no archive ${id}.`);
  return archive;
}

async function requestExport(
  tx: Transaction,
  scope: Scope,
  ref: string,
  options: ExportOptions,
): Promise<ArchiveChange> {
  const found = await findInstance(tx, scope.project, ref);
  if (found) await lockResources(tx, [resourceOf("instance", found.id)]);
  // Read again: who had the lock may have changed it.
  const instance = found && (await readInstance(tx, found.id));
  if (!instance) throw new BerthError("not_found", `There is no instance ${ref}.`);
  checkGeneration(options, instance.generation);
  requireOff(instance, options);
  const { environment } = options;
  const { id, name, project, nodeId } = instance;
  const archiveId = newId("archive");
  const operation = await startOperation(tx, {
    type: "instance.export",
    project,
    target: { kind: "instance", id, name },
    claims: [resourceOf("instance", id), resourceOf("archive", archiveId)],
    input: { archiveId, environment } satisfies ExportInput,
    nodeId,
    requestedBy: scope.caller.tokenId,
    queue: options.queue,
  });
  const archive = await insertArchive(tx, {
    id: archiveId,
    project,
    nodeId,
    name: `${name}.berth`,
    source: { type: "export", instance: { id, name }, environment },
    sizeBytes: null,
    beginning: null,
  });
  return { archive: toArchive({ ...archive, operationId: operation.id }), operation };
}

/** One that waits its turn is looked at again then. */
function requireOff({ name, status }: Instance, { queue }: ChangeOptions): void {
  if (queue || ["stopped", "failed"].includes(status.phase)) return;
  throw new BerthError("instance_running", `${name} is ${status.phase}; only what is off can be exported.`);
}

async function requestRemove(
  tx: Transaction,
  scope: Scope,
  id: string,
  options: ChangeOptions,
): Promise<ArchiveChange> {
  const archive = await find(tx, scope, id);
  const operation = await startArchiveDelete(tx, archive, scope.caller.tokenId, options.queue);
  return { archive: toArchive({ ...archive, operationId: operation.id }), operation };
}
