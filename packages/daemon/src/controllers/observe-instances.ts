import type { Instance } from "@berth/api";
import { observedStatus, seenState } from "../core/instance-status.ts";
import { followEvents, lastEventSeq } from "../store/events.ts";
import { listInstances, readInstance } from "../store/instances.ts";
import { attachGuest } from "../workflows/guest-access.ts";
import { writeStatus } from "../workflows/instance-record.ts";
import { findHandle, observeInstance } from "../workflows/observe-instance.ts";
import type { Services } from "../workflows/services.ts";
import type { ControllerLog } from "./controller.ts";

/** How often every instance is looked at although nothing was heard of it, in milliseconds. */
const sweepMs = 10_000;

/**
 * Keeps the status of the node's instances true while no operation works on them: looks at one when its guest says something, when an
 * operation on it ends, and at all of them now and then.
 */
export async function observeInstances(
  services: Services,
  nodeId: string,
  log: ControllerLog,
  signal: AbortSignal,
): Promise<void> {
  const looks = new Looks((id) => look(services, id), log);
  const unsubscribe = services.guests.onChange((id) => looks.ask(id));
  const sweep = async () => {
    for (const id of await instanceIds(services, nodeId)) looks.ask(id);
  };
  const timer = setInterval(
    () => void sweep().catch((error) => log.error({ err: error }, "the instances could not be listed")),
    sweepMs,
  );
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  try {
    await sweep();
    const after = await lastEventSeq(services.store.queries);
    for await (const event of followEvents(services.store, { after }, signal)) {
      const target = event.data.target;
      if (/^operation\.(succeeded|failed|cancelled)$/.test(event.type) && isInstance(target)) looks.ask(target.id);
    }
  } finally {
    clearInterval(timer);
    unsubscribe();
    await looks.idle();
  }
}

function isInstance(target: unknown): target is { kind: "instance"; id: string } {
  return typeof target === "object" && target !== null && "kind" in target && target.kind === "instance";
}

async function instanceIds({ store }: Services, nodeId: string): Promise<string[]> {
  const ids: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await listInstances(store.queries, { nodeId, cursor, limit: 500 });
    ids.push(...page.rows.map(({ id }) => id));
    cursor = page.nextCursor ?? undefined;
  } while (cursor);
  return ids;
}

/** Looks at one instance and writes what is new. An instance an operation holds is left to it, but for its guest being listened to. */
async function look(services: Services, id: string): Promise<void> {
  const { store } = services;
  const instance = await readInstance(store.queries, id);
  if (!instance) return services.guests.detach(id);
  if (instance.operationId) return;
  const driver = services.driver(instance.location);
  const handle = await findHandle(services, instance);
  const running = handle && (await driver.inspect(handle)).power !== "stopped";
  if (running) await attachGuest(services, instance, driver, handle);
  else services.guests.detach(id);
  const { observed } = await observeInstance(services, instance);
  await store.transaction(async (tx) => {
    const current = await readInstance(tx, id);
    if (!current || current.operationId || !isSame(current, instance)) return;
    const now = new Date().toISOString();
    await writeStatus(tx, current, observedStatus(current.status, seenState(observed), current.spec.power, now), null);
  });
}

/** Whether nobody wrote the row since it was read: what was observed belongs to that row. */
function isSame(one: Instance, other: Instance): boolean {
  return one.updatedAt === other.updatedAt && one.generation === other.generation;
}

/** Looks at each instance once at a time; asked again meanwhile, once more afterwards. */
class Looks {
  readonly #look: (id: string) => Promise<void>;
  readonly #log: ControllerLog;
  readonly #busy = new Map<string, { again: boolean; done: Promise<void> }>();

  constructor(look: (id: string) => Promise<void>, log: ControllerLog) {
    this.#look = look;
    this.#log = log;
  }

  ask(id: string): void {
    const busy = this.#busy.get(id);
    if (busy) {
      busy.again = true;
      return;
    }
    const entry = { again: false, done: Promise.resolve() };
    this.#busy.set(id, entry);
    entry.done = this.#run(id, entry);
  }

  async idle(): Promise<void> {
    await Promise.all([...this.#busy.values()].map(({ done }) => done));
  }

  async #run(id: string, entry: { again: boolean }): Promise<void> {
    do {
      entry.again = false;
      await this.#look(id).catch((error: unknown) =>
        this.#log.error({ instance: id, err: error }, "an instance could not be looked at"),
      );
    } while (entry.again);
    this.#busy.delete(id);
  }
}
