import type { Problem } from "./problem.ts";

/** One kind of error: HTTP status, what went wrong in general words, and what to do next. */
interface ErrorKind {
  readonly status: number;
  readonly title: string;
  readonly hint: string;
}

/**
 * Every error a client can meet, by code. docs/errors.md has one section for each and a test holds the two together.
 * The `detail` of one occurrence is given where it is thrown.
 */
export const errorCatalogue = {
  invalid_request: {
    status: 400,
    title: "The request is not valid",
    hint: "Correct the fields listed under errors and send it again.",
  },
  invalid_reference: {
    status: 400,
    title: "The image reference is not valid",
    hint: "Write it as docker pull takes it: nginx, nginx:1.27, ghcr.io/owner/app@sha256:…",
  },
  unauthenticated: {
    status: 401,
    title: "No valid token",
    hint: "Set BERTH_TOKEN, or run as the user who started berthd; its token file is found by itself.",
  },
  wrong_password: {
    status: 401,
    title: "The name or the password is wrong",
    hint: "Try again, or ask an administrator for a new password: berth user reset NAME.",
  },
  reset_expired: {
    status: 410,
    title: "The code sets no password any more",
    hint: "Ask an administrator for another: berth user reset NAME.",
  },
  weak_password: {
    status: 422,
    title: "The password is too easy to guess",
    hint: "Take at least 12 characters: several words that do not belong together are good.",
  },
  no_session: {
    status: 409,
    title: "The request was not sent by somebody who has logged in",
    hint: "A token is revoked with berth token rm, and has no password.",
  },
  forbidden: {
    status: 403,
    title: "The token does not allow this",
    hint: "Ask an administrator for a role or a token that allows it: berth token create.",
  },
  not_found: {
    status: 404,
    title: "There is no such object",
    hint: "List what there is with berth ls, berth image ls or berth op ls.",
  },
  path_not_found: {
    status: 404,
    title: "The guest has no such path",
    hint: "Look what there is: berth exec NAME -- ls; a folder that is copied into must be there.",
  },
  route_not_found: { status: 404, title: "There is no such path", hint: "The API reference is at /docs." },
  method_not_allowed: {
    status: 405,
    title: "The path does not take this method",
    hint: "The Allow header lists what it takes; the API reference is at /docs.",
  },
  host_refused: {
    status: 421,
    title: "The Host header names a host that is not this one",
    hint: "Use the address that berthd listens on, such as http://127.0.0.1:8642; the header is checked so that no web page can reach berthd by a name of its own.",
  },
  upgrade_required: {
    status: 426,
    title: "The path is for WebSocket connections",
    hint: "Open it as a WebSocket, or use berth exec or berth console.",
  },
  busy: {
    status: 409,
    title: "Another operation holds this object",
    hint: "Wait for it with berth op wait, cancel it with berth op cancel, or send the request with ?queue=true.",
  },
  name_taken: {
    status: 409,
    title: "The name is in use",
    hint: "Choose another name, or delete the object that has it.",
  },
  port_taken: {
    status: 409,
    title: "The host port is in use",
    hint: "Publish another host port, or leave it out to get a free one.",
  },
  instance_running: {
    status: 409,
    title: "The instance is running",
    hint: "Stop it first; to delete it as it is, or have it stopped for a restore, add --force.",
  },
  instance_not_running: { status: 409, title: "The instance is not running", hint: "Start it with berth start." },
  instance_suspended: {
    status: 409,
    title: "The instance is suspended",
    hint: "Let it go on with berth resume. To lose what is in its memory: berth stop --force, or berth start --cold.",
  },
  image_in_use: {
    status: 409,
    title: "The image is in use",
    hint: "Delete the instances made from it and their snapshots first.",
  },
  project_in_use: {
    status: 409,
    title: "The project still holds something",
    hint: "Delete what is in it first; the detail says what that is.",
  },
  operation_final: {
    status: 409,
    title: "The operation has already ended",
    hint: "Nothing is left to cancel; see it with berth op show.",
  },
  idempotency_mismatch: {
    status: 422,
    title: "The Idempotency-Key was used for another request",
    hint: "Use a new key for a new request.",
  },
  precondition_failed: {
    status: 412,
    title: "The object has changed since it was read",
    hint: "Read it again and send the request with its new ETag in If-Match.",
  },
  body_too_large: {
    status: 413,
    title: "The request body is too large",
    hint: "Send less: at most 1 MiB of JSON.",
  },
  range_not_satisfiable: {
    status: 416,
    title: "The file has no such part",
    hint: "Ask for a part that begins before its end; the Content-Range header has its length.",
  },
  unsupported_media_type: {
    status: 415,
    title: "The body's content type is not understood",
    hint: "Send application/json, or the type that the API reference names.",
  },
  not_enough_resources: {
    status: 422,
    title: "The node does not have that much",
    hint: "Ask for less; berth doctor shows what the node has.",
  },
  quota_exceeded: {
    status: 422,
    title: "The project's quota does not allow that much",
    hint: "Ask for less, delete what is not needed, or ask an administrator for more: berth project show tells limits and use.",
  },
  unsupported_by_driver: {
    status: 422,
    title: "The driver cannot do this",
    hint: "Use a location whose driver can; berth doctor lists what each can do.",
  },
  image_not_found: {
    status: 422,
    title: "The registry does not have the image",
    hint: "Check the name and the tag; a private image needs credentials, which berthd takes from BERTH_REGISTRY_AUTH.",
  },
  registry_unreachable: {
    status: 422,
    title: "The registry cannot be reached",
    hint: "Check the registry's name and the node's network, then try again.",
  },
  registry_error: {
    status: 422,
    title: "The registry answered with an error",
    hint: "The detail has the registry's own words; try again later if it is the registry's fault.",
  },
  git_not_found: {
    status: 422,
    title: "The Git repository does not have that",
    hint: "Check the branch, tag or commit, and the folder: https://host/repo.git#REF:FOLDER.",
  },
  git_fetch_failed: {
    status: 422,
    title: "The Git repository cannot be fetched",
    hint: "The detail has git's own words. Check the URL, that everybody may read it, and the node's network.",
  },
  digest_mismatch: {
    status: 422,
    title: "Content does not match its digest",
    hint: "The registry or something between served other bytes than it promised; do not trust it before you know why.",
  },
  unsafe_image: {
    status: 422,
    title: "The image has unsafe content",
    hint: "The detail says what it is; make the image without it.",
  },
  unsupported_image: {
    status: 422,
    title: "The image cannot run here",
    hint: "Use an image with a Linux variant for this node's architecture.",
  },
  invalid_archive: {
    status: 422,
    title: "The archive cannot be imported",
    hint: "Nothing was made of it. It is damaged, cut short, or not what berth export writes; fetch it again, or export it again.",
  },
  archive_incomplete: {
    status: 409,
    title: "The archive has not arrived wholly",
    hint: "Send the rest of it: berth import with the same file goes on where it broke off.",
  },
  upload_offset: {
    status: 409,
    title: "The upload goes on elsewhere",
    hint: "Ask how much has arrived, and send what follows that.",
  },
  build_failed: {
    status: 422,
    title: "The build failed",
    hint: "Read its log with berth op show --log; the last lines name the failing instruction.",
  },
  address_refused: {
    status: 422,
    title: "The address may not be fetched from",
    hint: "Loopback, link-local and private addresses are refused unless the administrator lists the host in BERTH_ALLOW_HOSTS.",
  },
  start_failed: {
    status: 422,
    title: "The image's process could not be started",
    hint: "Check the entrypoint and command against the image. The instance is kept: see berth logs, then berth rm it.",
  },
  exited_early: {
    status: 422,
    title: "The image's process ended before it was ready",
    hint: "See berth logs for its last words. The instance is kept until you berth rm it.",
  },
  not_ready_in_time: {
    status: 422,
    title: "The instance did not become ready in time",
    hint: "See berth logs; a published port that nothing listens on keeps it from being ready.",
  },
  template_failed: {
    status: 422,
    title: "The template could not be made",
    hint: "See berth template show; without --warm the instance is booted instead.",
  },
  memory_unusable: {
    status: 422,
    title: "The saved memory cannot be gone on from",
    hint: "It is damaged, cut short, or of another hypervisor or kit. Launch with --cold, or start the instance from its disk.",
  },
  disk_missing: {
    status: 422,
    title: "A disk of the instance is gone",
    hint: "Nothing was made in its place: put the file back, restore a snapshot with --discard, or delete the instance.",
  },
  snapshot_damaged: {
    status: 422,
    title: "The snapshot is damaged",
    hint: "Nothing was changed. berth snapshot verify tells all that is wrong with it; use another snapshot.",
  },
  snapshot_mismatch: {
    status: 422,
    title: "The snapshot does not fit the instance",
    hint: "Make a new instance from it: berth launch --snapshot.",
  },
  too_many_snapshots: {
    status: 422,
    title: "The instance's disk stands on too many snapshots",
    hint: "Delete some of its snapshots, or of the instances forked or launched from them: berth snapshot ls, berth snapshot rm. What nothing needs then is merged at once.",
  },
  disk_full: {
    status: 507,
    title: "The node's disk is full",
    hint: "Free space on the data folder's file system: berth image rm, or a larger disk.",
  },
  host_program_failed: {
    status: 500,
    title: "A program on the node failed",
    hint: "The detail has its command and last words; berth doctor checks the node's programs.",
  },
  guest_unreachable: {
    status: 504,
    title: "The guest does not answer",
    hint: "See berth logs and the console; restart the instance if it hangs.",
  },
  guest_refused: {
    status: 503,
    title: "The guest did not do what it was asked",
    hint: "The detail says why; try again when it is less busy.",
  },
  rate_limited: { status: 429, title: "Too many requests", hint: "Wait as long as Retry-After says." },
  shutting_down: { status: 503, title: "berthd is shutting down", hint: "Try again when it is up." },
  cancelled: {
    status: 409,
    title: "The operation was cancelled",
    hint: "Nothing is left behind; ask again if it is still wanted.",
  },
  internal: {
    status: 500,
    title: "Something went wrong inside berthd",
    hint: "See berthd's log for the request id, and report it.",
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorCatalogue;

/** An error worded for the person who must act. `detail` says what happened this time; it must never hold a secret. */
export class BerthError extends Error {
  readonly code: ErrorCode;
  readonly extra: Pick<Problem, "errors" | "operationId">;
  /** When it makes sense to try again, as the Retry-After header says it. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ErrorCode,
    detail: string,
    options: {
      cause?: unknown;
      errors?: { path: string; message: string }[];
      operationId?: string;
      retryAfterSeconds?: number;
    } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "BerthError";
    this.code = code;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.extra = {
      ...(options.errors ? { errors: options.errors } : {}),
      ...(options.operationId ? { operationId: options.operationId } : {}),
    };
  }
}

/** The problem+json body of an error. Anything but a BerthError becomes `internal`, without its words: they may hold what a client must not see. */
export function toProblem(error: unknown): Problem {
  const known =
    error instanceof BerthError ? error : new BerthError("internal", "An unexpected error; berthd's log has it.");
  const kind = errorCatalogue[known.code];
  return {
    type: `/docs/errors#${known.code}`,
    title: kind.title,
    status: kind.status,
    code: known.code,
    detail: known.message,
    hint: kind.hint,
    ...known.extra,
  };
}
