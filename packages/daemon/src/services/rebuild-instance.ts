import { BerthError, type Instance, isId, type RebuildChange, type RebuildInstance } from "@berth/api";
import { newId } from "../core/ids.ts";
import { startOperation } from "../operations/start.ts";
import type { ChangeOptions, Scope } from "../server/services.ts";
import { imageUse } from "../store/images.ts";
import { updateInstance } from "../store/instances.ts";
import { resourceOf } from "../store/operations.ts";
import type { Transaction } from "../store/store.ts";
import type { NewInstanceInput } from "../workflows/instance-input.ts";
import { freeSnapshotName, insertSnapshotOf } from "../workflows/open-snapshot.ts";
import { findOrPull, holdImage } from "./image-to-use.ts";
import type { InstanceRequestContext } from "./instances.ts";

/**
 * Starts the operation that makes an instance's root disk anew; until the image is there the instance goes on as it is. Rejects with BerthError `instance_suspended`,
 * `unsupported_by_driver`, `unsupported_image`, `not_found` or `busy`.
 */
export async function requestRebuild(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  instance: Instance,
  { image: wanted = instance.image, force, discard }: RebuildInstance,
  options: ChangeOptions,
): Promise<RebuildChange> {
  const { id, name, location, nodeId, spec, status } = instance;
  const driver = context.drivers.get(location);
  if (!discard && !driver?.abilities.snapshots)
    throw new BerthError(
      "unsupported_by_driver",
      `${location} takes no snapshots, which would keep what is on its disk: say that it goes.`,
    );
  if (status.phase === "suspended" && !force)
    throw new BerthError("instance_suspended", `${name} is suspended: its memory fits its present disks alone.`);
  const image = await findOrPull(tx, context, scope, wanted);
  if (!driver?.abilities.boots.includes(image.kind))
    throw new BerthError("unsupported_by_driver", `${location} does not boot ${image.kind} images.`);
  await holdImage(tx, image.id);
  const reference = isId(wanted) ? (image.references[0] ?? image.id) : wanted;
  const power = status.phase === "running" || status.phase === "starting" ? "running" : "stopped";
  const keptId = discard ? null : newId("snapshot");
  const operation = await startOperation(tx, {
    type: "instance.rebuild",
    project: scope.project,
    target: { kind: "instance", id, name },
    claims: [
      ...[resourceOf("instance", id), imageUse(image.id, id)],
      ...(keptId ? [resourceOf("snapshot", keptId)] : []),
    ],
    input: {
      force: false,
      power,
      restartGeneration: spec.restartGeneration,
      rebuild: { imageId: image.id, reference, keptId },
    } satisfies NewInstanceInput,
    nodeId,
    requestedBy: scope.caller.id,
    queue: options.queue,
  });
  const kept = keptId
    ? await insertSnapshotOf(tx, instance, {
        id: keptId,
        name: await freeSnapshotName(tx, instance, "before-rebuild"),
        kind: "disk",
        automatic: false,
      })
    : null;
  return { instance: await updateInstance(tx, id, { spec: { ...spec, power } }), operation, kept };
}
