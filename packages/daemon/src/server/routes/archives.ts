import { type ArchiveChange, BerthError } from "@berth/api";
import { answerChange, type Call, changeOptions, type Handlers, invalidHeader } from "../call.ts";

type ArchiveRoutes =
  | "exportInstance"
  | "exportSnapshot"
  | "listArchives"
  | "getArchive"
  | "readArchive"
  | "createArchive"
  | "askArchive"
  | "writeArchive"
  | "importInstance"
  | "deleteArchive";

const answer = (
  call: Call<"exportInstance" | "exportSnapshot" | "importInstance" | "deleteArchive">,
  change: ArchiveChange,
) =>
  answerChange(call, change, async () => ({
    archive: await call.services.archives.get(call.scope, change.archive.id),
  }));

const tusVersion = "1.0.0";

/** What every answer of tus says of itself (its protocol 1.0.0, section Headers). Throws for a client that speaks another version. */
function speakTus(call: Call<"askArchive" | "writeArchive">): void {
  call.header("tus-resumable", tusVersion);
  call.header("tus-version", tusVersion);
  const asked = call.headers["tus-resumable"];
  if (asked !== undefined && asked !== tusVersion)
    throw new BerthError("precondition_failed", `Tus-Resumable must be ${tusVersion}.`);
}

export const archiveHandlers: Handlers<ArchiveRoutes> = {
  exportInstance: async (call) =>
    answer(
      call,
      await call.services.archives.export(call.scope, call.params.instance, {
        ...changeOptions("exportInstance", call),
        environment: call.query.environment ?? true,
      }),
    ),
  exportSnapshot: async (call) =>
    answer(
      call,
      await call.services.archives.exportSnapshot(call.scope, call.params.snapshot, {
        ...changeOptions("exportSnapshot", call),
        environment: call.query.environment ?? true,
      }),
    ),
  listArchives: ({ services, scope, query }) => {
    const { limit, cursor } = query;
    return services.archives.list(scope, { limit, cursor });
  },
  getArchive: ({ services, scope, params }) => services.archives.get(scope, params.archive),
  readArchive: ({ services, scope, params }) => services.archives.read(scope, params.archive),
  createArchive: async (call) => {
    const archive = await call.services.archives.create(call.scope, call.body, changeOptions("createArchive", call));
    call.header("location", `/api/v1/archives/${archive.id}`);
    return archive;
  },
  askArchive: async (call) => {
    speakTus(call);
    const { receivedBytes, sizeBytes } = await call.services.archives.get(call.scope, call.params.archive);
    call.header("upload-offset", String(receivedBytes));
    if (sizeBytes !== null) call.header("upload-length", String(sizeBytes));
    return undefined;
  },
  writeArchive: async (call) => {
    speakTus(call);
    const { services, scope, params, body, signal } = call;
    const offset = String(call.headers["upload-offset"] ?? "");
    if (!/^\d{1,15}$/.test(offset)) throw invalidHeader("upload-offset", "must be how many bytes have arrived");
    const now = await services.archives.write(scope, params.archive, { offset: Number(offset), body, signal });
    call.header("upload-offset", String(now));
    return undefined;
  },
  importInstance: async (call) =>
    answer(
      call,
      await call.services.archives.import(
        call.scope,
        call.params.archive,
        call.body,
        changeOptions("importInstance", call),
      ),
    ),
  deleteArchive: async (call) =>
    answer(
      call,
      await call.services.archives.remove(call.scope, call.params.archive, changeOptions("deleteArchive", call)),
    ),
};
