import type { SnapshotChange } from "@berth/api";
import { answerChange, type Call, changeOptions, etagOf, type Handlers } from "../call.ts";

type SnapshotRoutes =
  | "listSnapshots"
  | "createSnapshot"
  | "getSnapshot"
  | "deleteSnapshot"
  | "verifySnapshot"
  | "restoreSnapshot"
  | "launchSnapshot"
  | "promoteSnapshot";

const answer = (call: Call<"createSnapshot" | "deleteSnapshot" | "verifySnapshot">, change: SnapshotChange) =>
  answerChange(call, change, async () => ({
    snapshot: await call.services.snapshots.get(call.scope, change.snapshot.id),
  }));

export const snapshotHandlers: Handlers<SnapshotRoutes> = {
  listSnapshots: ({ services, scope, query }) => {
    const { limit, cursor, instance } = query;
    return services.snapshots.list(scope, { limit, cursor, instance });
  },
  createSnapshot: async (call) =>
    answer(call, await call.services.snapshots.create(call.scope, call.body, changeOptions("createSnapshot", call))),
  getSnapshot: ({ services, scope, params }) => services.snapshots.get(scope, params.snapshot),
  deleteSnapshot: async (call) => {
    const { services, scope, params } = call;
    return answer(call, await services.snapshots.remove(scope, params.snapshot, changeOptions("deleteSnapshot", call)));
  },
  verifySnapshot: async (call) => {
    const { services, scope, params } = call;
    return answer(call, await services.snapshots.verify(scope, params.snapshot, changeOptions("verifySnapshot", call)));
  },
  restoreSnapshot: async (call) => {
    const { services, scope, params, body } = call;
    const options = changeOptions("restoreSnapshot", call);
    const change = await services.snapshots.restore(scope, params.snapshot, body, options);
    const answered = await answerChange(call, change, async () => ({
      instance: await services.instances.get(scope, change.instance.id),
      kept: change.kept && (await services.snapshots.get(scope, change.kept.id)),
    }));
    call.header("etag", etagOf(answered.instance));
    return answered;
  },
  promoteSnapshot: async (call) => {
    const { services, scope, params, body } = call;
    const options = changeOptions("promoteSnapshot", call);
    const change = await services.snapshots.promote(scope, params.snapshot, body, options);
    return answerChange(call, change, async () => ({ image: await services.images.get(scope, change.image.id) }));
  },
  launchSnapshot: async (call) => {
    const { services, scope, params, body } = call;
    const change = await services.snapshots.launch(scope, params.snapshot, body, changeOptions("launchSnapshot", call));
    const answered = await answerChange(call, change, async () => ({
      instance: await services.instances.get(scope, change.instance.id),
    }));
    call.header("etag", etagOf(answered.instance));
    return answered;
  },
};
