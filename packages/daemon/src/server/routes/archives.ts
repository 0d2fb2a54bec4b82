import type { ArchiveChange } from "@berth/api";
import { answerChange, type Call, changeOptions, type Handlers } from "../call.ts";

type ArchiveRoutes = "exportInstance" | "listArchives" | "getArchive" | "readArchive" | "deleteArchive";

const answer = (call: Call<"exportInstance" | "deleteArchive">, change: ArchiveChange) =>
  answerChange(call, change, async () => ({
    archive: await call.services.archives.get(call.scope, change.archive.id),
  }));

export const archiveHandlers: Handlers<ArchiveRoutes> = {
  exportInstance: async (call) =>
    answer(
      call,
      await call.services.archives.export(call.scope, call.params.instance, {
        ...changeOptions("exportInstance", call),
        environment: call.query.environment ?? true,
      }),
    ),
  listArchives: ({ services, scope, query }) => {
    const { limit, cursor } = query;
    return services.archives.list(scope, { limit, cursor });
  },
  getArchive: ({ services, scope, params }) => services.archives.get(scope, params.archive),
  readArchive: ({ services, scope, params }) => services.archives.read(scope, params.archive),
  deleteArchive: async (call) =>
    answer(
      call,
      await call.services.archives.remove(call.scope, call.params.archive, changeOptions("deleteArchive", call)),
    ),
};
