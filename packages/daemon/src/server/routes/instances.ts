import type { Instance, InstanceChange } from "@berth/api";
import { answerChange, type Call, changeOptions, etagOf, type Handlers } from "../call.ts";
import { consoleSession, execSession } from "../guest-socket.ts";
import type { LabelFilter } from "../services.ts";

type InstanceRoutes =
  | "listInstances"
  | "createInstance"
  | "getInstance"
  | "changeInstance"
  | "forkInstance"
  | "rebuildInstance"
  | "startInstance"
  | "stopInstance"
  | "suspendInstance"
  | "restartInstance"
  | "deleteInstance"
  | "instanceLogs"
  | "execInstance"
  | "consoleInstance"
  | "readFiles"
  | "writeFiles";

/** `key=value` asks for that value, `key` for any; several must all fit. */
function labelFilters(labels: string | readonly string[] | undefined): LabelFilter[] {
  const texts = labels === undefined ? [] : typeof labels === "string" ? [labels] : labels;
  return texts.map((text) => {
    const equals = text.indexOf("=");
    return equals < 0 ? { key: text } : { key: text.slice(0, equals), value: text.slice(equals + 1) };
  });
}

type ChangeName =
  | "createInstance"
  | "changeInstance"
  | "startInstance"
  | "stopInstance"
  | "suspendInstance"
  | "restartInstance"
  | "deleteInstance";

/** Answers a change with the instance's ETag. */
async function answer<C extends InstanceChange>(call: Call<ChangeName>, change: C): Promise<C> {
  const answered = await answerChange(call, change, async () => ({
    ...change,
    instance: await call.services.instances.get(call.scope, change.instance.id),
  }));
  call.header("etag", etagOf(answered.instance));
  return answered;
}

const get = async (call: Call<"getInstance">): Promise<Instance> => {
  const instance = await call.services.instances.get(call.scope, call.params.instance);
  call.header("etag", etagOf(instance));
  return instance;
};

export const instanceHandlers: Handlers<InstanceRoutes> = {
  listInstances: ({ services, scope, query }) => {
    const { limit, cursor, phase, label } = query;
    return services.instances.list(scope, { limit, cursor, phase, labels: labelFilters(label) });
  },
  createInstance: async (call) =>
    answer(call, await call.services.instances.create(call.scope, call.body, changeOptions("createInstance", call))),
  getInstance: get,
  changeInstance: async (call) =>
    answer(
      call,
      await call.services.instances.change(
        call.scope,
        call.params.instance,
        call.body,
        changeOptions("changeInstance", call),
      ),
    ),
  forkInstance: async (call) => {
    const { services, scope, params, body } = call;
    const change = await services.instances.fork(scope, params.instance, body, changeOptions("forkInstance", call));
    // Those that could not be made are answered as they were last seen.
    const answered = await answerChange(call, change, async () => ({
      instance: await services.instances.get(scope, change.instance.id),
      children: await Promise.all(
        change.children.map((child) => services.instances.get(scope, child.id).catch(() => child)),
      ),
    }));
    call.header("etag", etagOf(answered.instance));
    return answered;
  },
  rebuildInstance: async (call) => {
    const { services, scope, params, body } = call;
    const options = changeOptions("rebuildInstance", call);
    const change = await services.instances.rebuild(scope, params.instance, body, options);
    const answered = await answerChange(call, change, async () => ({
      instance: await services.instances.get(scope, change.instance.id),
      // That of one whose image could not be made is gone.
      kept: change.kept && (await services.snapshots.get(scope, change.kept.id).catch(() => change.kept)),
    }));
    call.header("etag", etagOf(answered.instance));
    return answered;
  },
  startInstance: async (call) =>
    answer(
      call,
      await call.services.instances.start(call.scope, call.params.instance, {
        ...changeOptions("startInstance", call),
        cold: call.query.cold ?? false,
      }),
    ),
  stopInstance: async (call) =>
    answer(
      call,
      await call.services.instances.stop(call.scope, call.params.instance, {
        ...changeOptions("stopInstance", call),
        force: call.query.force ?? false,
      }),
    ),
  suspendInstance: async (call) =>
    answer(
      call,
      await call.services.instances.suspend(call.scope, call.params.instance, changeOptions("suspendInstance", call)),
    ),
  restartInstance: async (call) =>
    answer(
      call,
      await call.services.instances.restart(call.scope, call.params.instance, changeOptions("restartInstance", call)),
    ),
  deleteInstance: async (call) =>
    answer(
      call,
      await call.services.instances.remove(call.scope, call.params.instance, {
        ...changeOptions("deleteInstance", call),
        force: call.query.force ?? false,
        snapshots: call.query.snapshots ?? false,
      }),
    ),
  instanceLogs: ({ services, scope, params, query, signal }) =>
    services.instances.logs(scope, params.instance, {
      tail: query.tail,
      follow: query.follow ?? false,
      timestamps: query.timestamps ?? false,
      signal,
    }),
  execInstance: async ({ services, scope, params }) =>
    execSession((request, signal) => services.instances.exec(scope, params.instance, request, signal)),
  consoleInstance: async ({ services, scope, params }) =>
    consoleSession((signal) => services.instances.console(scope, params.instance, signal)),
  readFiles: ({ services, scope, params, query, signal }) =>
    services.instances.readFiles(scope, params.instance, query.path, signal),
  writeFiles: async ({ services, scope, params, query, body, signal }) => {
    await services.instances.writeFiles(scope, params.instance, query.path, body, signal);
    return undefined;
  },
};
