import {
  BerthError,
  type BuildImage,
  type Image,
  type ImageChange,
  type ImageSource,
  isId,
  type PullImage,
} from "@berth/api";
import { newId } from "../core/ids.ts";
import { refuseSecrets } from "../images/git.ts";
import { canonicalReference } from "../images/reference.ts";
import { joinOrStart, startOperation } from "../operations/start.ts";
import type { ChangeOptions, Scope, Services } from "../server/services.ts";
import {
  deleteFailedAttempts,
  findImage,
  insertImage,
  listImages,
  listImageUsers,
  readImage,
  updateImage,
} from "../store/images.ts";
import { readOperation, resourceOf } from "../store/operations.ts";
import { holdToQuota } from "../store/quotas.ts";
import type { Queries, Store, Transaction } from "../store/store.ts";
import type { ImageInput } from "../workflows/made-image.ts";
import { changeOnce } from "./change.ts";

/** What requests about images need to know of the node that makes them. */
export interface ImageRequestContext {
  readonly store: Store;
  readonly nodeId: string;
  readonly architecture: string;
}

/** Images, as the server asks for them. */
export function imageServices(context: ImageRequestContext): Services["images"] {
  const { store } = context;

  /** The objects of an earlier change as they are now; as they were then, where they are gone. */
  const refresh = async (made: ImageChange): Promise<ImageChange> => ({
    image: (await readImage(store.queries, made.image.id)) ?? made.image,
    operation: (await readOperation(store.queries, made.operation.id)) ?? made.operation,
  });

  return {
    async list(scope, { reference, ...query }) {
      const { rows, nextCursor } = await listImages(store.queries, {
        ...query,
        project: scope.project,
        reference: reference === undefined ? undefined : canonicalReference(reference),
      });
      return { items: rows, nextCursor };
    },
    get: (scope, ref) => requireImage(store.queries, scope, ref),
    async pull(scope, input, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestPull(tx, context, scope, input)));
    },
    async build(scope, input, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestBuild(tx, context, scope, input, options)));
    },
    async remove(scope, ref, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestRemove(tx, context, scope, ref, options)));
    },
  };
}

/** The image of an id or a reference, however that is written. */
async function requireImage(queries: Queries, { project }: Scope, ref: string): Promise<Image> {
  const image = await findImage(queries, project, isId(ref) ? ref : canonicalReference(ref));
  if (!image) throw new BerthError("not_found", `There is no image ${ref}.`);
  return image;
}

/**
 * The image of a reference: the one that is here, the one being pulled, or a new pull. Within a project one reference is pulled once at a time,
 * so all who ask meanwhile share the work.
 */
export async function requestPull(
  tx: Transaction,
  context: ImageRequestContext,
  scope: Scope,
  input: PullImage,
): Promise<ImageChange> {
  const reference = canonicalReference(input.reference);
  const here = await findImage(tx, scope.project, reference);
  const maker = here?.operationId ? await readOperation(tx, here.operationId) : undefined;
  if (here && maker && !input.refresh) return { image: here, operation: maker };
  const source: ImageSource = { type: "registry", reference };
  return startMaking(tx, context, scope, source, { reference, source: { type: "registry" } }, "image.pull");
}

async function requestBuild(
  tx: Transaction,
  context: ImageRequestContext,
  scope: Scope,
  input: BuildImage,
  options: ChangeOptions,
): Promise<ImageChange> {
  const { dockerfile, buildArgs } = input;
  // Before anything of it is written down.
  if (input.source.type === "git") refuseSecrets(input.source.url);
  const source: ImageSource =
    input.source.type === "directory" ? { ...input.source, dockerfile } : { ...input.source, dockerfile, commit: null };
  const asked = { reference: canonicalReference(input.reference), source: { ...input.source, dockerfile, buildArgs } };
  return startMaking(tx, context, scope, source, asked, "image.build", { queue: options.queue });
}

/**
 * Begins to make an image, or joins who makes one of the same reference by a pull. Builds of one reference are never shared: their sources may differ. `claims` is what else is held
 * meanwhile.
 */
export async function startMaking(
  tx: Transaction,
  context: ImageRequestContext,
  scope: Scope,
  source: ImageSource,
  input: ImageInput,
  type: "image.pull" | "image.build" | "image.promote",
  { queue = false, claims = [] }: { readonly queue?: boolean; readonly claims?: readonly string[] } = {},
): Promise<ImageChange> {
  const id = newId("image");
  const request = {
    type,
    project: scope.project,
    target: { kind: "image", id, name: input.reference },
    claims: [resourceOf("image-reference", `${scope.project}/${input.reference}`), resourceOf("image", id), ...claims],
    input: { ...input },
    nodeId: context.nodeId,
    requestedBy: scope.caller.id,
    queue,
  };
  const { operation, joined } =
    type === "image.pull"
      ? await joinOrStart(tx, request)
      : { operation: await startOperation(tx, request), joined: false };
  const shared = joined ? await readImage(tx, operation.target.id) : undefined;
  if (shared) return { image: shared, operation };
  await deleteFailedAttempts(tx, scope.project, source);
  const image = await insertImage(tx, {
    id,
    project: scope.project,
    source,
    state: "building",
    reason: "",
    contentDigest: null,
    kind: "rootfs",
    os: "linux",
    architecture: context.architecture,
    firmware: "kernel",
    sizeBytes: null,
    startConfig: null,
    operationId: operation.id,
  });
  await holdToQuota(tx, scope.project, ["images"]);
  return { image, operation };
}

async function requestRemove(
  tx: Transaction,
  context: ImageRequestContext,
  scope: Scope,
  ref: string,
  options: ChangeOptions,
): Promise<ImageChange> {
  // Here, since a repeated request must find its first answer although the image may be gone by now.
  const image = await requireImage(tx, scope, ref);
  const { id } = image;
  const name = image.references[0] ?? id;
  const operation = await startOperation(tx, {
    type: "image.delete",
    project: scope.project,
    target: { kind: "image", id, name },
    claims: [resourceOf("image", id)],
    input: {},
    nodeId: context.nodeId,
    requestedBy: scope.caller.id,
    queue: options.queue,
    rank: 2,
  });
  const users = await listImageUsers(tx, id, 3);
  if (users.length > 0) throw new BerthError("image_in_use", `${name} is used by ${users.join(", ")}.`);
  return { image: await updateImage(tx, id, {}), operation };
}
