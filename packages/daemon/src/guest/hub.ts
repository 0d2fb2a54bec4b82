import { EventEmitter } from "node:events";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { BerthError } from "@berth/api";
import { abortable } from "./abortable.ts";
import { GuestChannel } from "./channel.ts";
import type { GuestConfig } from "./config.ts";
import { GuestControl } from "./control.ts";
import { applyFact, type GuestFact, type GuestState, unknownGuest } from "./facts.ts";
import type { InstanceKeys } from "./keys.ts";

/** What the hub needs to talk to one guest. */
export interface GuestAccess {
  /** Opens a port of the running machine; rejects while there is none. */
  openPort(port: "control" | "channel", signal: AbortSignal): Promise<Duplex>;
  /**
   * Makes the configuration for a guest that has just booted, or goes on in another machine: the clock and the seed must be of this moment. Undefined leaves the guest
   * waiting for it.
   */
  config(): GuestConfig | undefined | Promise<GuestConfig | undefined>;
  readonly keys: InstanceKeys;
}

/** The latest of one guest. `gone`: its machine was reached before, or said to be off, and cannot be reached now. */
export interface SeenGuest extends GuestState {
  readonly connected: boolean;
  readonly gone: boolean;
}

/** Between attempts to reach a control port, in milliseconds: machines take a moment to open theirs. */
const firstRetryMs = 50;
const lastRetryMs = 2000;

const nothingSeen: SeenGuest = { ...unknownGuest, connected: false, gone: false };

/** The conversations with all guests: at most one control connection and one channel for each instance, reopened as needed. */
export class GuestHub {
  readonly #guests = new Map<string, Guest>();
  readonly #events = new EventEmitter().setMaxListeners(0);

  /** Begins to listen to an instance; one that is already attached stays as it is. */
  attach(instanceId: string, access: GuestAccess): void {
    if (this.#guests.has(instanceId)) return;
    this.#guests.set(instanceId, new Guest(access, (fact) => this.#events.emit("change", instanceId, fact)));
  }

  isAttached(instanceId: string): boolean {
    return this.#guests.has(instanceId);
  }

  /** Closes what is open to an instance and forgets it; those waiting for it are told that it is gone. */
  detach(instanceId: string): void {
    const guest = this.#guests.get(instanceId);
    this.#guests.delete(instanceId);
    guest?.end();
  }

  /** What is known of an instance's guest; undefined when it is not attached. */
  latest(instanceId: string): SeenGuest | undefined {
    return this.#guests.get(instanceId)?.seen;
  }

  /** Calls back at each fact and each change of the connection (then without a fact); returns what ends that. */
  onChange(listener: (instanceId: string, fact: GuestFact | undefined) => void): () => void {
    this.#events.on("change", listener);
    return () => this.#events.off("change", listener);
  }

  /** Resolves with the first state that fits. Rejects with the signal's reason, or BerthError `guest_unreachable` when it is not or no longer attached. */
  async waitFor(instanceId: string, predicate: (guest: SeenGuest) => boolean, signal: AbortSignal): Promise<SeenGuest> {
    return this.#guest(instanceId).waitFor(predicate, signal);
  }

  /** Asks the instance's process to end: the signal's number, then the power after the time limit. False when the guest cannot be told now. */
  stop(instanceId: string, request: { signal: number; timeoutMs: number }): boolean {
    return this.#guests.get(instanceId)?.command((control) => control.stop(request)) ?? false;
  }

  /**
   * Makes all programs of the image stand still; resolves when they do. The guest lets them go on by itself after two seconds, unless it goes on in another machine: then it
   * waits to be told who it is, which happens by itself once it is attached. Throws BerthError `guest_unreachable` or `guest_refused`, or the signal's reason.
   */
  async hold(instanceId: string, signal: AbortSignal): Promise<void> {
    await this.#guest(instanceId).ask(
      "hold",
      (control) => control.hold(),
      (fact) => fact.fact === "held",
      signal,
    );
  }

  /** Lets them go on. Throws as `hold`; `guest_refused` also when the guest had let them go on before: then they were not still all the time. */
  async release(instanceId: string, signal: AbortSignal): Promise<void> {
    await this.#guest(instanceId).ask(
      "release",
      (control) => control.release(),
      (fact) => fact.fact === "released" && fact.by === "host",
      signal,
    );
  }

  /** Writes everything to the root disk and stops all writing to it; the guest goes on by itself after two seconds. Throws as `hold`. */
  async freeze(instanceId: string, signal: AbortSignal): Promise<void> {
    await this.#guest(instanceId).ask(
      "freeze",
      (control) => control.freeze(),
      (fact) => fact.fact === "frozen",
      signal,
    );
  }

  /** Lets the guest write again. Throws as `hold`; `guest_refused` also when the guest had gone on by itself before. */
  async thaw(instanceId: string, signal: AbortSignal): Promise<void> {
    await this.#guest(instanceId).ask(
      "thaw",
      (control) => control.thaw(),
      (fact) => fact.fact === "thawed" && fact.by === "host",
      signal,
    );
  }

  /** Has readiness tell of these ports from now on. Throws as `hold`. */
  async watch(instanceId: string, ports: readonly number[], signal: AbortSignal): Promise<void> {
    const watching = (fact: GuestFact) => fact.fact === "watching";
    await this.#guest(instanceId).ask("watch", (control) => control.watch(ports), watching, signal);
  }

  /** Has the guest grow its file systems to its disks, which have so many bytes each by now. Throws as `hold`. */
  async grow(instanceId: string, diskBytes: readonly number[], signal: AbortSignal): Promise<void> {
    const grown = (fact: GuestFact) => fact.fact === "grown";
    await this.#guest(instanceId).ask("grow", (control) => control.grow(diskBytes), grown, signal);
  }

  /** The instance's channel, opened when it is first needed. Throws BerthError `guest_unreachable`. */
  async channel(instanceId: string, signal: AbortSignal): Promise<GuestChannel> {
    return this.#guest(instanceId).channel(signal);
  }

  /** Detaches everything. */
  close(): void {
    for (const id of [...this.#guests.keys()]) this.detach(id);
  }

  #guest(instanceId: string): Guest {
    const guest = this.#guests.get(instanceId);
    if (!guest) throw new BerthError("guest_unreachable", "There is no connection to the guest.");
    return guest;
  }
}

/** One attached instance. */
class Guest {
  seen: SeenGuest = nothingSeen;
  readonly #access: GuestAccess;
  readonly #tell: (fact: GuestFact | undefined) => void;
  readonly #changes = new EventEmitter().setMaxListeners(0);
  readonly #stop = new AbortController();
  #control: GuestControl | undefined;
  #channel: Promise<GuestChannel> | undefined;

  constructor(access: GuestAccess, tell: (fact: GuestFact | undefined) => void) {
    this.#access = access;
    this.#tell = tell;
    void this.#keepListening();
  }

  command(act: (control: GuestControl) => void): boolean {
    if (!this.#control || !this.seen.connected) return false;
    act(this.#control);
    return true;
  }

  waitFor(predicate: (guest: SeenGuest) => boolean, signal: AbortSignal): Promise<SeenGuest> {
    return this.#await(() => (predicate(this.seen) ? this.seen : undefined), signal);
  }

  /** Gives a command and resolves with the fact that answers it. */
  ask(
    name: string,
    give: (control: GuestControl) => void,
    answers: (fact: GuestFact) => boolean,
    signal: AbortSignal,
  ): Promise<GuestFact> {
    if (!this.command(give))
      return Promise.reject(new BerthError("guest_unreachable", "There is no connection to the guest."));
    const asked = this.#control;
    return this.#await((fact) => {
      if (this.#control !== asked)
        throw new BerthError("guest_unreachable", `The guest was lost before it answered ${name}.`);
      if (fact?.fact === "refused" && fact.command === name)
        throw new BerthError("guest_refused", `The guest refused to ${name}: ${fact.reason}.`);
      return fact && answers(fact) ? fact : undefined;
    }, signal);
  }

  /** Looks now and at each change until `look` gives something, which resolves, or throws, which rejects. */
  #await<T>(look: (fact: GuestFact | undefined) => T | undefined, signal: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void) => {
        this.#changes.off("change", onChange);
        signal.removeEventListener("abort", onAbort);
        this.#stop.signal.removeEventListener("abort", onAbort);
        finish();
      };
      const onChange = (fact?: GuestFact) => {
        try {
          const found = look(fact);
          if (found !== undefined) settle(() => resolve(found));
          else if (signal.aborted) settle(() => reject(signal.reason));
          else if (this.#stop.signal.aborted)
            settle(() => reject(new BerthError("guest_unreachable", "The guest is no longer listened to.")));
        } catch (error) {
          settle(() => reject(error));
        }
      };
      const onAbort = () => onChange();
      this.#changes.on("change", onChange);
      signal.addEventListener("abort", onAbort);
      this.#stop.signal.addEventListener("abort", onAbort);
      onChange();
    });
  }

  /** One attempt serves all who ask meanwhile, so it ends with the attachment rather than with one of them. */
  async channel(signal: AbortSignal): Promise<GuestChannel> {
    this.#channel ??= this.#openChannel();
    return abortable(this.#channel, signal);
  }

  end(): void {
    this.#stop.abort();
    this.#control?.close();
    this.#channel?.then((channel) => channel.close()).catch(() => {});
    this.#change({ connected: false, gone: true });
  }

  async #openChannel(): Promise<GuestChannel> {
    try {
      const { signal } = this.#stop;
      const stream = await this.#access.openPort("channel", signal);
      const channel = await GuestChannel.connect(stream, this.#access.keys, signal);
      void channel.closed.then(() => {
        this.#channel = undefined;
      });
      return channel;
    } catch (error) {
      this.#channel = undefined;
      throw error instanceof BerthError
        ? error
        : new BerthError("guest_unreachable", "The guest's channel cannot be opened.", { cause: error });
    }
  }

  async #keepListening(): Promise<void> {
    const { signal } = this.#stop;
    let retryMs = firstRetryMs;
    while (!signal.aborted) {
      try {
        await this.#listen(await this.#access.openPort("control", signal));
        retryMs = firstRetryMs;
      } catch (error) {
        const off = error instanceof BerthError && error.code === "instance_not_running";
        if (off || this.seen.bootId) this.#change({ connected: false, gone: true });
      }
      // Rejects only when the attachment ends.
      await delay(retryMs, undefined, { signal }).catch(() => {});
      retryMs = Math.min(retryMs * 2, lastRetryMs);
    }
  }

  /** Listens on one connection until it closes. */
  async #listen(stream: Duplex): Promise<void> {
    const control = new GuestControl(stream);
    this.#control = control;
    let configuredBoot = "";
    let identified = false;
    try {
      this.#change({ connected: true, gone: false });
      for await (const fact of control.facts()) {
        if (this.#stop.signal.aborted) return;
        this.seen = { ...this.seen, ...applyFact(this.seen, fact) };
        // Once for each boot and connection: a guest that has it already ignores it.
        if (isWaiting(this.seen) && this.seen.bootId !== configuredBoot) {
          configuredBoot = this.seen.bootId;
          await this.#instruct((config) => control.configure(config));
        }
        // Once for each connection: it leads to one machine.
        if (this.seen.moved && !identified) {
          identified = true;
          await this.#instruct((config) => control.identify(config));
        }
        this.#announce(fact);
      }
    } finally {
      control.close();
      this.#control = undefined;
      if (!this.#stop.signal.aborted) this.#change({ connected: false });
    }
  }

  /** Tells the guest who it is; it reads that as soon as it can. What cannot be sent fails the guest's start. */
  async #instruct(send: (config: GuestConfig) => void): Promise<void> {
    try {
      const config = await this.#access.config();
      if (config) send(config);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.seen = { ...this.seen, failure: { code: 126, reason } };
    }
  }

  #change(change: Partial<Pick<SeenGuest, "connected" | "gone">>): void {
    this.seen = { ...this.seen, ...change };
    this.#announce(undefined);
  }

  #announce(fact: GuestFact | undefined): void {
    this.#changes.emit("change", fact);
    this.#tell(fact);
  }
}

function isWaiting({ bootId, phase }: GuestState): boolean {
  return bootId !== "" && (phase === "booting" || phase === "prepared");
}
