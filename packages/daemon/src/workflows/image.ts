import type { Image } from "@berth/api";
import { type Claimed, inOrder, type Outcome, type Step, type Workflow } from "../operations/workflow.ts";
import { appendEvent } from "../store/events.ts";
import { deleteImage, findImage, listImageUsers, readImage, setImageReference, updateImage } from "../store/images.ts";
import type { Transaction } from "../store/store.ts";
import { ImageInput, type MadeContent } from "./made-image.ts";
import type { Services } from "./services.ts";
import { buildArtifact } from "./steps/build-artifact.ts";
import { buildFromDockerfile } from "./steps/build-from-dockerfile.ts";
import { collectBlobs } from "./steps/collect-blobs.ts";
import { copyDisk } from "./steps/copy-disk.ts";
import { fetchLayers } from "./steps/fetch-layers.ts";
import { keepDisk } from "./steps/keep-disk.ts";
import { removeArtifact } from "./steps/remove-artifact.ts";
import { resolveReference } from "./steps/resolve-reference.ts";

/** The operations of an image: plain lists of steps. */
export function imageWorkflows(services: Services): readonly Workflow[] {
  return [
    making("image.pull", [resolveReference(services), fetchLayers(services), buildArtifact(services)]),
    making("image.build", [buildFromDockerfile(services), buildArtifact(services)]),
    making("image.promote", [copyDisk(services), keepDisk(services)]),
    {
      ...listed("image.delete", [removeArtifact(services), collectBlobs(services)]),
      settle: settleDelete,
    },
  ];
}

function listed(type: string, steps: readonly Step[]): Workflow {
  return { type, steps, inspect: async () => undefined, decide: ({ journal }) => inOrder(steps, journal) };
}

function making(type: string, steps: readonly Step[]): Workflow {
  return {
    ...listed(type, steps),
    decide: ({ journal }) => inOrder(steps, journal, journal.get(steps.at(-1)?.name ?? "")?.result ?? null),
    settle: settleMaking,
  };
}

/** The image becomes ready and its reference names it from now on; or it failed, and says why. */
async function settleMaking(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const image = await readImage(tx, operation.target.id);
  if (!image) return;
  const { reference } = ImageInput.parse(operation.input);
  if (outcome.status !== "succeeded") {
    await updateImage(tx, image.id, { state: "failed", reason: outcome.error.message });
    appendImageEvent(tx, image, "image.failed", operation.id, reference, { reason: outcome.error.message });
    return;
  }
  const made = outcome.result as unknown as MadeContent;
  const before = await findImage(tx, image.project, reference);
  await updateImage(tx, image.id, {
    state: "ready",
    contentDigest: made.image.contentDigest,
    os: made.image.os,
    architecture: made.image.architecture,
    sizeBytes: made.contentBytes,
    startConfig: made.image.startConfig,
    ...(image.source.type === "git" ? { source: { ...image.source, commit: made.commit } } : {}),
  });
  await setImageReference(tx, image.project, reference, image.id);
  if (before) await forgetSuperseded(tx, before.id, made.image.contentDigest);
  appendImageEvent(tx, image, "image.ready", operation.id, reference, { contentDigest: made.image.contentDigest });
}

/** The same content pulled again leaves its former image without a name and a use: it goes, and its artifact serves on. */
async function forgetSuperseded(tx: Transaction, id: string, contentDigest: string): Promise<void> {
  const image = await readImage(tx, id);
  if (!image || image.references.length > 0 || image.contentDigest !== contentDigest) return;
  if ((await listImageUsers(tx, id, 1)).length === 0) await deleteImage(tx, id);
}

async function settleDelete(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const image = await readImage(tx, operation.target.id);
  if (!image || outcome.status !== "succeeded") return;
  await deleteImage(tx, image.id);
  appendImageEvent(tx, image, "image.deleted", operation.id, operation.target.name);
}

function appendImageEvent(
  tx: Transaction,
  image: Pick<Image, "id" | "project">,
  type: string,
  operationId: string,
  name: string,
  data: { readonly [key: string]: string } = {},
): void {
  appendEvent(tx, { type, project: image.project, subject: { kind: "image", id: image.id, name }, operationId, data });
}
