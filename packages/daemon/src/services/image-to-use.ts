import { BerthError, type Image, isId } from "@berth/api";
import { canonicalReference } from "../images/reference.ts";
import { busy } from "../operations/start.ts";
import type { Scope } from "../server/services.ts";
import { findImage, readImage } from "../store/images.ts";
import { lockResources, readClaims } from "../store/operation-claims.ts";
import { resourceOf } from "../store/operations.ts";
import type { Transaction } from "../store/store.ts";
import { type ImageRequestContext, requestPull } from "./images.ts";

/** Keeps an image from being deleted before this is committed. Rejects with BerthError `busy` while it is being deleted, `not_found` when it is gone. */
export async function holdImage(tx: Transaction, id: string): Promise<void> {
  const resource = resourceOf("image", id);
  await lockResources(tx, [resource]);
  const deleting = (await readClaims(tx, [resource])).find(({ type }) => type === "image.delete");
  if (deleting) throw busy(deleting);
  if (!(await readImage(tx, id))) throw new BerthError("not_found", `There is no image ${id}.`);
}

/** An image by its id, or by a reference, which is pulled when it is not here. */
export async function findOrPull(
  tx: Transaction,
  context: ImageRequestContext,
  scope: Scope,
  wanted: string,
): Promise<Image> {
  if (!isId(wanted)) {
    const here = await findImage(tx, scope.project, canonicalReference(wanted));
    return here ?? (await requestPull(tx, context, scope, { reference: wanted, refresh: true })).image;
  }
  const image = await readImage(tx, wanted);
  if (image?.project !== scope.project) throw new BerthError("not_found", `There is no image ${wanted}.`);
  if (image.source.type === "import")
    throw new BerthError(
      "unsupported_image",
      `Image ${wanted} came with an imported instance and has no content of its own.`,
    );
  if (image.state === "failed")
    throw new BerthError("unsupported_image", `Image ${wanted} could not be made: ${image.reason}`);
  return image;
}
