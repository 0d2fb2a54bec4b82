import {
  type Archive,
  type ArchiveChange,
  BerthError,
  type CreateArchive,
  type ImportInstance,
  type Instance,
} from "@berth/api";
import type { ArchiveFiles } from "../archives/archive-files.ts";
import type { Manifest } from "../archives/manifest.ts";
import { openArchive } from "../archives/read-archive.ts";
import { newId } from "../core/ids.ts";
import { checkPlatform, importedInstance } from "../core/imported-instance.ts";
import { checkCapacity, checkPorts } from "../core/new-instance.ts";
import type { Host } from "../host/host.ts";
import { startOperation } from "../operations/start.ts";
import type { ChangeOptions, ExportOptions, Scope, Services, UploadPart } from "../server/services.ts";
import { insertArchive, listArchives, readArchive, type StoredArchive, touchArchive } from "../store/archives.ts";
import { findInstance, readInstance } from "../store/instances.ts";
import { lockResources } from "../store/operation-claims.ts";
import { readOperation, resourceOf } from "../store/operations.ts";
import type { Queries, Transaction } from "../store/store.ts";
import { startArchiveDelete } from "../workflows/archive-record.ts";
import { type ExportInput, suspendedError } from "../workflows/export-input.ts";
import { toInput } from "../workflows/import-input.ts";
import { changeOnce, checkGeneration } from "./change.ts";
import type { InstanceRequestContext } from "./instances.ts";
import { requireUsable } from "./snapshots.ts";

/** What requests about archives need to know of the node. */
export interface ArchiveRequestContext extends InstanceRequestContext {
  readonly archives: ArchiveFiles;
  readonly host: Host;
  readonly dataDir: string;
}

/** How often an archive that is being sent begins its time anew, in milliseconds. */
const touchMs = 600_000;

/** Archives, as the server asks for them. */
export function archiveServices(context: ArchiveRequestContext): Services["archives"] {
  const { store, archives } = context;

  const show = async ({ nodeId: _, ...archive }: StoredArchive): Promise<Archive> => {
    const receivedBytes = (await archives.size(archive.id)) ?? 0;
    return { ...archive, receivedBytes, state: stateOf(archive, receivedBytes) };
  };

  /** The objects of an earlier change as they are now; as they were then, where they are gone. */
  const refresh = async (made: Requested): Promise<ArchiveChange> => ({
    archive: await show((await readArchive(store.queries, made.archive.id)) ?? made.archive),
    operation: (await readOperation(store.queries, made.operation.id)) ?? made.operation,
  });

  const get = async (scope: Scope, id: string) => show(await find(store.queries, scope, id));

  return {
    async list(scope, query) {
      const { rows, nextCursor } = await listArchives(store.queries, { ...query, project: scope.project });
      return { items: await Promise.all(rows.map(show)), nextCursor };
    },
    get,
    async export(scope, ref, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestExport(tx, scope, ref, options)));
    },
    async exportSnapshot(scope, ref, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestSnapshotExport(tx, scope, ref, options)));
    },
    async read(scope, id) {
      const archive = await get(scope, id);
      requireReady(archive);
      const sizeBytes = await archives.size(id);
      if (sizeBytes === undefined) throw new BerthError("not_found", `The file of archive ${id} is gone.`);
      await touchArchive(store.queries, id);
      return { name: archive.name, tag: id, sizeBytes, read: (start, end) => archives.read(id, start, end) };
    },
    async create(scope, input, options) {
      await requireRoom(context, input);
      const made = await changeOnce(store, scope, options, (tx) => announce(tx, context, scope, input));
      return show((await readArchive(store.queries, made.id)) ?? made);
    },
    write: async (scope, id, part) => write(context, await find(store.queries, scope, id), part),
    async import(scope, id, input, options) {
      requireReady(await get(scope, id));
      // Read before the transaction, which must wait for nothing; the archive does not change any more.
      const { manifest } = openArchive(archives.path(id));
      const request = (tx: Transaction) => requestImport(tx, context, scope, { id, manifest, input, options });
      return refresh(await changeOnce(store, scope, options, request));
    },
    async remove(scope, id, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestRemove(tx, scope, id, options)));
    },
  };
}

/** An archive and its operation as they were when that was begun. */
interface Requested {
  readonly archive: StoredArchive;
  readonly operation: ArchiveChange["operation"];
}

function stateOf(
  { source, sizeBytes }: Pick<Archive, "source" | "sizeBytes">,
  receivedBytes: number,
): Archive["state"] {
  if (source.type === "export") return sizeBytes === null ? "writing" : "ready";
  return receivedBytes === sizeBytes ? "ready" : "receiving";
}

function requireReady({ name, state, sizeBytes, receivedBytes, operationId }: Archive): void {
  if (state === "writing") {
    throw new BerthError("busy", `${name} is still being written.`, { ...(operationId ? { operationId } : {}) });
  }
  if (state === "receiving") {
    throw new BerthError("archive_incomplete", `${receivedBytes} of ${sizeBytes} bytes of ${name} have arrived.`);
  }
}

async function find(queries: Queries, scope: Scope, id: string): Promise<StoredArchive> {
  const archive = await readArchive(queries, id);
  if (archive?.project !== scope.project) throw new BerthError("not_found", `There is no archive ${id}.`);
  return archive;
}

async function requestExport(tx: Transaction, scope: Scope, ref: string, options: ExportOptions): Promise<Requested> {
  const found = await findInstance(tx, scope.project, ref);
  if (found) await lockResources(tx, [resourceOf("instance", found.id)]);
  // Read again: who had the lock may have changed it.
  const instance = found && (await readInstance(tx, found.id));
  if (!instance) throw new BerthError("not_found", `There is no instance ${ref}.`);
  checkGeneration(options, instance.generation);
  requireOff(instance, options);
  const { id, name, nodeId } = instance;
  const target = { kind: "instance", id, name };
  return startExport(tx, scope, options, { target, nodeId, instance: { id, name }, snapshot: null });
}

async function requestSnapshotExport(
  tx: Transaction,
  scope: Scope,
  ref: string,
  options: ExportOptions,
): Promise<Requested> {
  const { id, name, instanceId, instanceName, nodeId } = await requireUsable(tx, scope, ref);
  const instance = { id: instanceId, name: instanceName };
  return startExport(tx, scope, options, {
    target: { kind: "snapshot", id, name },
    nodeId,
    instance,
    snapshot: { id, name },
  });
}

/** What is exported. */
interface Exported {
  readonly target: { readonly kind: string; readonly id: string; readonly name: string };
  readonly nodeId: string;
  readonly instance: { readonly id: string; readonly name: string };
  readonly snapshot: { readonly id: string; readonly name: string } | null;
}

async function startExport(
  tx: Transaction,
  { project, caller }: Scope,
  { environment, queue }: ExportOptions,
  { target, nodeId, instance, snapshot }: Exported,
): Promise<Requested> {
  const archiveId = newId("archive");
  const operation = await startOperation(tx, {
    type: `${target.kind}.export`,
    project,
    target,
    claims: [resourceOf(target.kind, target.id), resourceOf("archive", archiveId)],
    input: { archiveId, environment } satisfies ExportInput,
    nodeId,
    requestedBy: caller.id,
    queue,
  });
  const archive = await insertArchive(tx, {
    id: archiveId,
    project,
    nodeId,
    name: `${target.name}.berth`,
    source: { type: "export", instance: { ...instance }, snapshot, environment },
    sizeBytes: null,
    beginning: null,
  });
  return { archive, operation };
}

/** One that waits its turn is looked at again then. */
function requireOff({ name, status }: Instance, { queue }: ChangeOptions): void {
  if (queue || ["stopped", "failed"].includes(status.phase)) return;
  if (status.phase === "suspended") throw suspendedError(name);
  throw new BerthError(
    "instance_running",
    `${name} is ${status.phase}; only what is off can be exported, or a snapshot.`,
  );
}

async function requireRoom({ host, dataDir }: ArchiveRequestContext, { sizeBytes }: CreateArchive): Promise<void> {
  const free = await host.files.freeBytes(dataDir);
  if (sizeBytes <= free) return;
  throw new BerthError("disk_full", `It has ${sizeBytes} bytes; the node has ${free} free.`);
}

function announce(
  tx: Transaction,
  { nodeId }: ArchiveRequestContext,
  { project }: Scope,
  input: CreateArchive,
): Promise<StoredArchive> {
  return insertArchive(tx, { id: newId("archive"), project, nodeId, source: { type: "upload" }, ...input });
}

/** Takes the next part; what is sent for long does not come to its time's end meanwhile. */
async function write(
  { store, archives }: ArchiveRequestContext,
  { id, name, source, sizeBytes }: StoredArchive,
  { offset, body, signal }: UploadPart,
): Promise<number> {
  if (source.type !== "upload" || sizeBytes === null)
    throw new BerthError("upload_offset", `${name} is written by berthd itself.`);
  let touchedAt = performance.now();
  const touch = () => {
    touchedAt = performance.now();
    return touchArchive(store.queries, id);
  };
  await touch();
  const told = () => {
    if (performance.now() - touchedAt > touchMs) touch().catch(() => undefined);
  };
  const received = await archives.receive({ id, offset, sizeBytes, body }, signal, told);
  await touch();
  return received;
}

interface ImportRequest {
  readonly id: string;
  readonly manifest: Manifest;
  readonly input: ImportInstance;
  readonly options: ChangeOptions;
}

/** What an archive says of itself is judged as a request to make an instance is; its content is verified by the operation. */
async function requestImport(
  tx: Transaction,
  context: ArchiveRequestContext,
  scope: Scope,
  { id, manifest, input, options }: ImportRequest,
): Promise<Requested> {
  const archive = await find(tx, scope, id);
  const { location = context.defaultLocation, ...wish } = input;
  const driver = context.drivers.get(location);
  if (!driver) throw new BerthError("not_found", `There is no location ${location}.`);
  if (!driver.abilities.boots.includes("rootfs"))
    throw new BerthError("unsupported_by_driver", `${location} does not boot rootfs images.`);
  checkPlatform(manifest.image, context.architecture);
  const { name, spec } = importedInstance(manifest.instance, wish);
  checkCapacity(spec, context.capacity);
  checkPorts(spec.ports);
  if (await findInstance(tx, scope.project, name))
    throw new BerthError("name_taken", `There is already an instance named ${name}.`);
  const instanceId = newId("instance");
  const { power, restartGeneration } = spec;
  const operation = await startOperation(tx, {
    type: "instance.import",
    project: scope.project,
    target: { kind: "instance", id: instanceId, name },
    claims: [resourceOf("instance", instanceId), resourceOf("archive", id)],
    input: toInput({ force: false, power, restartGeneration, archiveId: id, location, wish }),
    nodeId: context.nodeId,
    requestedBy: scope.caller.id,
    queue: options.queue,
  });
  return { archive, operation };
}

async function requestRemove(tx: Transaction, scope: Scope, id: string, options: ChangeOptions): Promise<Requested> {
  const archive = await find(tx, scope, id);
  const operation = await startArchiveDelete(tx, archive, scope.caller.id, options.queue);
  return { archive, operation };
}
