import { Archive, ArchiveParams, CreateArchive, ImportInstance, ListArchivesQuery } from "../archive.ts";
import { ArchiveChange } from "../change.ts";
import { ChangeQuery, pageOf } from "../common.ts";
import { route } from "../route.ts";

const projectQuery = ChangeQuery.pick({ project: true });
const archives = "/api/v1/archives";
const archive = `${archives}/:archive`;

/** The requests about archives: instances in one file. */
export const archiveRoutes = {
  listArchives: route({
    method: "GET",
    path: archives,
    summary: "List archives",
    resource: "archive",
    action: "list",
    kind: "json",
    query: ListArchivesQuery,
    status: 200,
    response: pageOf(Archive),
  }),
  getArchive: route({
    method: "GET",
    path: archive,
    summary: "Show one archive",
    resource: "archive",
    action: "read",
    kind: "json",
    params: ArchiveParams,
    query: projectQuery,
    status: 200,
    response: Archive,
  }),
  readArchive: route({
    method: "GET",
    path: `${archive}/content`,
    summary: "Read an archive, or a part of it",
    description:
      "The bytes of an archive never change, so a copy that broke off goes on with `Range: bytes=OFFSET-`; the ETag is the archive's id.",
    resource: "archive",
    action: "use",
    kind: "file",
    params: ArchiveParams,
    query: projectQuery,
    status: 200,
  }),
  createArchive: route({
    method: "POST",
    path: archives,
    summary: "Announce an archive that is about to be sent",
    description: "Its content is sent to `/archives/ID/content`, in one piece or several.",
    resource: "archive",
    action: "create",
    kind: "json",
    query: projectQuery,
    body: CreateArchive,
    status: 201,
    response: Archive,
    idempotent: true,
  }),
  askArchive: route({
    method: "HEAD",
    path: `${archive}/content`,
    summary: "Ask how much of an archive has arrived",
    description:
      "The core protocol of tus 1.0.0: the answer's Upload-Offset says where to go on, Upload-Length how long it shall be.",
    resource: "archive",
    action: "read",
    kind: "upload",
    params: ArchiveParams,
    query: projectQuery,
    status: 204,
  }),
  writeArchive: route({
    method: "PATCH",
    path: `${archive}/content`,
    summary: "Send an archive, or the next part of it",
    description:
      "The core protocol of tus 1.0.0: the body is what follows the first Upload-Offset bytes, which must be as many as have arrived. What came before a connection broke is kept.",
    resource: "archive",
    action: "update",
    kind: "upload",
    params: ArchiveParams,
    query: projectQuery,
    status: 204,
  }),
  importInstance: route({
    method: "POST",
    path: `${archive}/import`,
    summary: "Make an instance of an archive",
    description:
      "The operation's target is the instance. Everything in the archive is verified before anything is made; host ports that are taken here become free ones, with a word in the operation's log.",
    resource: "instance",
    action: "create",
    kind: "json",
    params: ArchiveParams,
    query: ChangeQuery,
    body: ImportInstance,
    status: 202,
    response: ArchiveChange,
    idempotent: true,
  }),
  deleteArchive: route({
    method: "DELETE",
    path: archive,
    summary: "Delete an archive from its node",
    resource: "archive",
    action: "delete",
    kind: "json",
    params: ArchiveParams,
    query: ChangeQuery,
    status: 202,
    response: ArchiveChange,
    idempotent: true,
  }),
};
