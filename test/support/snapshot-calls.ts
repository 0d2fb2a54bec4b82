import type {
  Client,
  CreateInstanceInput,
  CreateSnapshotInput,
  Instance,
  LaunchSnapshotInput,
  RestoreSnapshotInput,
  Snapshot,
} from "@berth/api";
import { expect } from "vitest";

const query = { wait: 60 } as const;

/** What tests of snapshots ask for, waited for, and held to having succeeded. */
export function snapshotCalls(client: () => Client, image: () => string) {
  const succeeded = async <C extends { readonly operation: { readonly error: unknown } }>(asked: Promise<C>) => {
    const change = await asked;
    expect(change.operation.error).toBeNull();
    return change;
  };
  const create = async (name: string, asked: Partial<CreateInstanceInput> = {}): Promise<Instance> =>
    (await succeeded(client().createInstance({ query, body: { image: image(), name, ...asked } }))).instance;
  const start = (name: string) => succeeded(client().startInstance({ params: { instance: name }, query }));
  const stop = (name: string) => succeeded(client().stopInstance({ params: { instance: name }, query }));
  const snapshot = async (
    instance: string,
    name: string,
    asked: Partial<CreateSnapshotInput> = {},
  ): Promise<Snapshot> =>
    (await succeeded(client().createSnapshot({ query, body: { instance, name, ...asked } }))).snapshot;
  const restore = (name: string, body: RestoreSnapshotInput = {}) =>
    succeeded(client().restoreSnapshot({ params: { snapshot: name }, query, body }));
  const launch = async (name: string, body: LaunchSnapshotInput = {}): Promise<Instance> =>
    (await succeeded(client().launchSnapshot({ params: { snapshot: name }, query, body }))).instance;
  const fork = async (instance: string): Promise<readonly Instance[]> =>
    (await succeeded(client().forkInstance({ params: { instance }, query, body: {} }))).children;
  const remove = (name: string, snapshots = false) =>
    succeeded(client().deleteInstance({ params: { instance: name }, query: { ...query, force: true, snapshots } }));
  const forget = (name: string) => succeeded(client().deleteSnapshot({ params: { snapshot: name }, query }));
  const removeAll = async () => {
    for (const { id } of (await client().listInstances({ query: {} })).items) await remove(id);
    for (const { id } of (await client().listSnapshots({ query: {} })).items) await forget(id);
  };
  return { create, start, stop, snapshot, restore, launch, fork, remove, forget, removeAll };
}
