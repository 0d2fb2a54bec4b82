import { BerthError, type Image, type Instance, type Operation, type Snapshot } from "@berth/api";
import type { ChangeOptions, Page, PageRequest, Scope, Services } from "../services.ts";

/** What fake snapshots need of the fake services around them. */
export interface FakeSurroundings {
  once<T>(scope: Scope, options: ChangeOptions, change: () => T): T;
  begin(type: string, target: Operation["target"], project: string): Operation;
  instance(scope: Scope, ref: string): Instance;
  image(reference: string, project: string): Image;
  pageOf<T extends { readonly id: string }>(items: readonly T[], query: PageRequest): Page<T>;
}

/** Snapshots in memory, with nothing behind them. */
export function fakeSnapshots(around: FakeSurroundings): Services["snapshots"] {
  const all = new Map<string, Snapshot>();

  const find = (scope: Scope, ref: string): Snapshot => {
    const found = [...all.values()].find(
      (snapshot) => snapshot.project === scope.project && (snapshot.id === ref || snapshot.name === ref),
    );
    if (!found) throw new BerthError("not_found", `There is no snapshot ${ref}.`);
    return found;
  };
  const begin = (verb: string, kind: string, { id, name, project }: Snapshot | Instance) =>
    around.begin(verb, { kind, id, name }, project);
  const add = (instance: Instance, name: string): Snapshot => {
    const snapshot = makeSnapshot(instance, name, all.size + 1);
    all.set(snapshot.id, snapshot);
    return snapshot;
  };

  return {
    list: async (scope, query) => {
      const fits = ({ project, instanceName }: Snapshot) =>
        project === scope.project && (query.instance === undefined || query.instance === instanceName);
      return around.pageOf([...all.values()].filter(fits), query);
    },
    get: async (scope, ref) => find(scope, ref),
    create: async (scope, input, options) =>
      around.once(scope, options, () => {
        const snapshot = add(around.instance(scope, input.instance), input.name ?? "made-up");
        return { snapshot, operation: begin("snapshot.create", "snapshot", snapshot) };
      }),
    remove: async (scope, ref, options) =>
      around.once(scope, options, () => {
        const snapshot = find(scope, ref);
        all.delete(snapshot.id);
        return { snapshot, operation: begin("snapshot.delete", "snapshot", snapshot) };
      }),
    verify: async (scope, ref, options) =>
      around.once(scope, options, () => {
        const snapshot = find(scope, ref);
        return { snapshot, operation: begin("snapshot.verify", "snapshot", snapshot) };
      }),
    restore: async (scope, ref, input, options) =>
      around.once(scope, options, () => {
        const instance = around.instance(scope, input.instance ?? find(scope, ref).instanceName);
        const kept = input.discard ? null : add(instance, `${instance.name}-before`);
        return { instance, kept, operation: begin("instance.restore", "instance", instance) };
      }),
    promote: async (scope, ref, { reference }, options) =>
      around.once(scope, options, () => {
        const image = around.image(reference, find(scope, ref).project);
        const target = { kind: "image", id: image.id, name: reference };
        return { image, operation: around.begin("image.promote", target, scope.project) };
      }),
    launch: async (scope, ref, _input, options) =>
      around.once(scope, options, () => {
        const instance = around.instance(scope, find(scope, ref).instanceName);
        return { instance, operation: begin("instance.create", "instance", instance) };
      }),
  };
}

function makeSnapshot(instance: Instance, name: string, number: number): Snapshot {
  const { id: instanceId, name: instanceName, project, imageId, image, location, nodeId, spec } = instance;
  return {
    id: `snap-${number.toString(16).padStart(17, "0")}`,
    name,
    project,
    instanceId,
    instanceName,
    automatic: false,
    kind: "disk",
    consistency: "stopped",
    state: "ready",
    imageId,
    image,
    location,
    nodeId,
    spec,
    disks: [{ name: "root", sizeBytes: 2 ** 30 }],
    memoryBytes: 0,
    ownBytes: 0,
    sharedBytes: 196_608,
    verification: { verdict: "unverified", reason: "", at: null },
    operationId: null,
    createdAt: instance.createdAt,
  };
}
