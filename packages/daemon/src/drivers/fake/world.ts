import { join } from "node:path";
import { BerthError } from "@berth/api";
import type { HostFiles } from "../../host/host.ts";
import type { OwnerMark } from "../driver.ts";
import type { MachineRecord } from "./machine.ts";

/** What the world's file says of a machine: as it is, and as it was before the last change for those who see late. */
interface Entry {
  readonly current: MachineRecord | null;
  readonly before: MachineRecord | null;
  readonly changedAt: number;
}

/** A file in a guest; its content is Base64. */
export interface GuestFile {
  readonly mode: number;
  readonly content: string;
}

const maxLogBytes = 1024 * 1024;

/** The fake hypervisor or cloud: a folder of files, one for each machine, that outlives every daemon. Each write replaces a whole file. */
export class World {
  readonly #files: HostFiles;
  readonly #folder: string;
  /** How long readers go on seeing the state before a change. */
  readonly lagMs: number;
  /** Changes are made one after another: each is a read followed by a write. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(files: HostFiles, folder: string, lagMs: number) {
    this.#files = files;
    this.#folder = folder;
    this.lagMs = lagMs;
  }

  /** The machine as it really is. */
  async read(id: string): Promise<MachineRecord | null> {
    return (await this.#entry(id))?.current ?? null;
  }

  /** The machine as it looks from outside, which lags behind. */
  async see(id: string): Promise<MachineRecord | null> {
    const entry = await this.#entry(id);
    if (!entry) return null;
    return Date.now() < entry.changedAt + this.lagMs ? entry.before : entry.current;
  }

  /** All machines, as they really are. */
  async readAll(): Promise<readonly MachineRecord[]> {
    const records = await Promise.all((await this.#ids()).map((id) => this.read(id)));
    return records.filter((record) => record !== null);
  }

  /** All machines, as they look from outside. */
  async seeAll(): Promise<readonly MachineRecord[]> {
    const records = await Promise.all((await this.#ids()).map((id) => this.see(id)));
    return records.filter((record) => record !== null);
  }

  /** Changes a machine: `change` is given what there is and answers what shall be, null for nothing; the same object changes nothing. */
  async change(
    id: string,
    change: (current: MachineRecord | null) => MachineRecord | null | Promise<MachineRecord | null>,
  ): Promise<MachineRecord | null> {
    return this.exclusively(async () => {
      const current = await this.read(id);
      const next = await change(current);
      if (next !== current) await this.#write(id, current, next);
      return next;
    });
  }

  /** Runs while no other change is made. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }

  /** Makes a machine; only within `exclusively`. */
  async make(record: MachineRecord): Promise<void> {
    await this.#write(record.id, null, record);
  }

  /** Counts one more of something that happened to an owner's machine, and says how many it were. */
  count(owner: OwnerMark, what: string): Promise<number> {
    return this.exclusively(async () => {
      const path = this.#counterPath(owner);
      const counts = JSON.parse((await this.#files.readText(path)) ?? "{}") as Record<string, number>;
      const next = (counts[what] ?? 0) + 1;
      await this.#put("counters", path, { ...counts, [what]: next });
      return next;
    });
  }

  async forgetCounts(owner: OwnerMark): Promise<void> {
    await this.#files.remove(this.#counterPath(owner));
  }

  /** Appends to a machine's console log, each line with its time; of a long log the older half goes. */
  async appendLog(id: string, text: string): Promise<void> {
    if (text === "") return;
    const at = new Date().toISOString();
    const lines = text.replace(/\n$/, "").split("\n");
    await this.exclusively(async () => {
      const added = lines.map((line) => `${at} ${line}\n`).join("");
      const whole = (await this.readLog(id)) + added;
      const kept =
        whole.length > maxLogBytes ? whole.slice(whole.indexOf("\n", whole.length - maxLogBytes / 2) + 1) : whole;
      await this.#files.makeDirectory(join(this.#folder, "logs"));
      await this.#files.writeAtomic(this.#logPath(id), kept);
    });
  }

  /** The console log: lines of a time, a space and what was written. */
  async readLog(id: string): Promise<string> {
    return (await this.#files.readText(this.#logPath(id))) ?? "";
  }

  /** The files that were copied into a guest, by path. */
  async readFiles(id: string): Promise<Readonly<Record<string, GuestFile>>> {
    return JSON.parse((await this.#files.readText(this.#filesPath(id))) ?? "{}");
  }

  async writeFiles(id: string, files: Readonly<Record<string, GuestFile>>): Promise<void> {
    await this.#put("files", this.#filesPath(id), files);
  }

  async #entry(id: string): Promise<Entry | undefined> {
    const text = await this.#files.readText(this.#machinePath(id));
    if (text === undefined) return undefined;
    const entry = JSON.parse(text) as Entry;
    if (entry.current !== null || Date.now() < entry.changedAt + this.lagMs) return entry;
    // The last one who could still see it has looked.
    await this.#files.remove(this.#machinePath(id));
    return undefined;
  }

  async #ids(): Promise<readonly string[]> {
    const names = await this.#files.list(join(this.#folder, "machines"));
    return names.filter((name) => /^[a-z0-9-]+\.json$/.test(name)).map((name) => name.slice(0, -".json".length));
  }

  async #write(id: string, before: MachineRecord | null, current: MachineRecord | null): Promise<void> {
    if (current === null) await Promise.all([this.#logPath(id), this.#filesPath(id)].map(this.#files.remove));
    if (current === null && this.lagMs === 0) {
      await this.#files.remove(this.#machinePath(id));
      return;
    }
    const entry: Entry = { current, before, changedAt: Date.now() };
    await this.#put("machines", this.#machinePath(id), entry);
  }

  async #put(folder: string, path: string, content: object): Promise<void> {
    await this.#files.makeDirectory(join(this.#folder, folder));
    await this.#files.writeAtomic(path, JSON.stringify(content));
  }

  #machinePath(id: string): string {
    return join(this.#folder, "machines", `${checked(id)}.json`);
  }

  #logPath(id: string): string {
    return join(this.#folder, "logs", `${checked(id)}.log`);
  }

  #filesPath(id: string): string {
    return join(this.#folder, "files", `${checked(id)}.json`);
  }

  #counterPath(owner: OwnerMark): string {
    return join(this.#folder, "counters", `${checked(owner.installationId)}.${checked(owner.instanceId)}.json`);
  }
}

/** An id that can be part of a file name and nothing more. */
function checked(id: string): string {
  if (!/^[A-Za-z0-9-]{1,100}$/.test(id))
    throw new BerthError("internal", "A fake machine's id is letters, digits and dashes.");
  return id;
}
