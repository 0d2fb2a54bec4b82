import { setTimeout as delay } from "node:timers/promises";
import type { Autosuspend, Instance } from "@berth/api";
import { decideKnocking, type Idleness, isIdle, lookIntervalMs, watchIdleness } from "../core/autosuspend.ts";
import type { PortForward } from "../core/descriptions.ts";
import { followEvents, lastEventSeq } from "../store/events.ts";
import { listInstanceIds, readHandle, readInstance } from "../store/instances.ts";
import { connectionsOf } from "../workflows/connections.ts";
import { openChange } from "../workflows/open-change.ts";
import { runPorts } from "../workflows/run-ports.ts";
import type { Services } from "../workflows/services.ts";
import { wake } from "../workflows/wake-instance.ts";
import type { ControllerLog } from "./controller.ts";
import { Looks } from "./looks.ts";

/** Who asks for what this controller opens. */
const requestedBy = "controller:autosuspend";
const looksAtOnce = 4;
/** How long after an attempt that failed the next one may come, in milliseconds. */
const sleepAgainMs = 60_000;
const wakeAgainMs = 5_000;
/** How often a sleeper whose ports could not be had is tried again, in milliseconds. */
const ownAgainMs = 5_000;

/** What is kept of one instance. Times are of `performance.now()`. */
interface Watch {
  idleness?: Idleness;
  /** Whether it was put to sleep or woken, and has not been seen so since. */
  triedSleep: boolean;
  triedWake: boolean;
  sleepAt: number;
  wakeAt: number;
  ownAt: number;
}

/**
 * Puts instances to sleep that nobody has needed for as long as they say, stands in for those that sleep on their ports, and wakes one when somebody connects. It opens
 * operations `instance.suspend` and `instance.start`.
 */
export async function autosuspend(
  services: Services,
  nodeId: string,
  log: ControllerLog,
  signal: AbortSignal,
): Promise<void> {
  const { store, standIns } = services;
  const sleepers = new Sleepers(services, log);
  const looks = new Looks(
    looksAtOnce,
    (id) => sleepers.look(id),
    (id, error) => {
      if (!signal.aborted) log.error({ instance: id, err: error }, "an instance could not be put to sleep or woken");
    },
  );
  const after = await lastEventSeq(store.queries);
  const ended = standIns.onKnock((id) => void looks.ask(id));
  // Those that sleep first: until then nobody is at their ports.
  for (const phase of ["suspended", "running"] as const) {
    const ids = await listInstanceIds(store.queries, { nodeId, phases: [phase] });
    await Promise.all(ids.map((id) => looks.ask(id)));
  }
  const keepLooking = async () => {
    while (!signal.aborted) {
      await delay(sleepers.intervalMs(), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      await sleepers
        .countTraffic()
        .catch((error: unknown) => log.error({ err: error }, "traffic could not be counted"));
      await Promise.all(sleepers.watched().map((id) => looks.ask(id)));
    }
  };
  const looking = keepLooking();
  try {
    for await (const event of followEvents(store, { after }, signal)) {
      const id = instanceOf(event);
      if (id) void looks.ask(id);
    }
  } finally {
    ended();
    await looking;
    await looks.idle();
  }
}

/** The instance that an event may have changed something of. */
function instanceOf(event: {
  readonly subject: { readonly kind: string; readonly id: string };
  readonly data: object;
}) {
  if (event.subject.kind === "instance") return event.subject.id;
  const target = "target" in event.data ? (event.data.target as { kind: string; id: string }) : undefined;
  return target?.kind === "instance" ? target.id : undefined;
}

/** The instances that sleep, or may fall asleep. */
class Sleepers {
  readonly #services: Services;
  readonly #log: ControllerLog;
  readonly #watches = new Map<string, Watch>();
  /** Those that run, with when they sleep and what they publish. */
  readonly #running = new Map<string, { readonly autosuspend: Autosuspend; readonly ports: readonly PortForward[] }>();
  #packets: ReadonlyMap<string, number> = new Map();

  constructor(services: Services, log: ControllerLog) {
    this.#services = services;
    this.#log = log;
  }

  watched(): readonly string[] {
    return [...this.#watches.keys()];
  }

  intervalMs(): number {
    return lookIntervalMs([...this.#running.values()].map((one) => one.autosuspend));
  }

  async countTraffic(): Promise<void> {
    const ports = new Map([...this.#running].map(([id, one]) => [id, one.ports]));
    this.#packets = await this.#services.traffic.count(ports);
  }

  /** Looks at one instance and does what is due for it. */
  async look(id: string): Promise<void> {
    const { store, standIns, sessions } = this.#services;
    const instance = await readInstance(store.queries, id);
    // Whoever is at it has its ports in hand.
    if (instance?.operationId) return;
    if (instance?.spec.autosuspend && ["running", "suspended"].includes(instance.status.phase)) {
      const watch = this.#watch(id);
      if (instance.status.phase === "running") return this.#lookAwake(instance, instance.spec.autosuspend, watch);
      return this.#lookAsleep(instance, watch);
    }
    this.#watches.delete(id);
    this.#running.delete(id);
    // Of one that runs on, connections that woke it may still pass through here.
    const isOff = !instance || ["stopped", "suspended", "failed"].includes(instance.status.phase);
    if (isOff) await standIns.letGo(id);
    if (!instance) sessions.forget(id);
  }

  #watch(id: string): Watch {
    const present = this.#watches.get(id);
    if (present) return present;
    const watch: Watch = { triedSleep: false, triedWake: false, sleepAt: 0, wakeAt: 0, ownAt: 0 };
    this.#watches.set(id, watch);
    return watch;
  }

  async #lookAwake(instance: Instance, wished: Autosuspend, watch: Watch): Promise<void> {
    const { store, sessions } = this.#services;
    const { id } = instance;
    const now = performance.now();
    watch.triedWake = false;
    const before = this.#running.get(id);
    const ports = await runPorts(this.#services, instance);
    this.#running.set(id, { autosuspend: wished, ports });
    // Until its traffic is counted nobody knows whether there is any.
    if (!before || !this.#packets.has(id)) return;
    const { open, begun } = sessions.of(id);
    const connections = await connectionsOf(this.#services, instance, await readHandle(store.queries, id), ports);
    const activity = begun + (this.#packets.get(id) ?? 0);
    watch.idleness = watchIdleness(
      watch.idleness,
      { ready: instance.status.ready, connections, sessions: open, activity },
      now,
    );
    if (watch.triedSleep) {
      // It was called off, which is nobody's fault, or failed.
      watch.triedSleep = false;
      watch.sleepAt = now + sleepAgainMs;
    }
    if (watch.idleness.quietSince === now) watch.sleepAt = 0;
    if (now < watch.sleepAt || !isIdle(watch.idleness, wished, now)) return;
    watch.triedSleep = true;
    await store.transaction(async (tx) => {
      const current = await readInstance(tx, id);
      if (!current || current.operationId || current.updatedAt !== instance.updatedAt) return;
      await openChange(tx, current, { verb: "suspend", force: false, onlyIdle: true, requestedBy });
    });
  }

  async #lookAsleep(instance: Instance, watch: Watch): Promise<void> {
    const { store, standIns } = this.#services;
    const { id, status } = instance;
    const now = performance.now();
    this.#running.delete(id);
    delete watch.idleness;
    watch.triedSleep = false;
    if (!standIns.holds(id) && now >= watch.ownAt) await this.#own(instance, watch, now);
    const knocking = { waiting: standIns.waiting(id), tried: watch.triedWake, retryAt: watch.wakeAt };
    const decision = decideKnocking(status.phase, knocking, now);
    if (decision === "nothing") return;
    if (decision === "wake") {
      watch.triedWake = true;
      await wake(store, id, requestedBy);
      return;
    }
    if (watch.triedWake) watch.wakeAt = now + wakeAgainMs;
    watch.triedWake = false;
    standIns.turnAway(id);
  }

  async #own(instance: Instance, watch: Watch, now: number): Promise<void> {
    try {
      await this.#services.standIns.own(instance.id, await runPorts(this.#services, instance));
    } catch (error) {
      watch.ownAt = now + ownAgainMs;
      this.#log.warn({ instance: instance.id, err: error }, "nobody can wake it: its ports cannot be had");
    }
  }
}
