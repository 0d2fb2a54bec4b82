import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Client, Instance } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { accelerated, auditQemu, removeRules } from "../faults/audit-qemu.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { eventually } from "../support/eventually.ts";
import { scratchDirectory } from "../support/scratch.ts";

const image = "localhost/first-words:latest";
const long = { wait: 300 } as const;
const facts = ["random", "hostname", "machine-id", "mac"] as const;

/** What one clone said of itself, and the private key its guest proves itself with. */
type Identity = Readonly<Record<(typeof facts)[number] | "host key" | "id", string>>;

/** A berthd with an image whose only program says who it is, and the template of it. */
class Clones {
  readonly dataDir: string;
  readonly berthd: Berthd;

  private constructor(dataDir: string, berthd: Berthd) {
    this.dataDir = dataDir;
    this.berthd = berthd;
  }

  static async begin(scratch: string, env: Readonly<Record<string, string>> = {}): Promise<Clones> {
    const dataDir = join(scratch, "data");
    const berthd = await startBerthd({ dataDir, env: { BERTH_LOG_LEVEL: "warn", ...env } });
    await accelerated(dataDir);
    const path = join(scratch, "context");
    mkdirSync(path);
    const program = join(path, "first-words");
    execFileSync("gcc", ["-O1", "-static", "-s", "-o", program, join(import.meta.dirname, "first-words.c")]);
    writeFileSync(join(path, "Dockerfile"), 'FROM scratch\nCOPY first-words /first-words\nCMD ["/first-words"]\n');
    const body = { source: { type: "directory", path }, reference: image } as const;
    expect((await berthd.client.buildImage({ query: long, body })).operation.error).toBeNull();
    return new Clones(dataDir, berthd);
  }

  get client(): Client {
    return this.berthd.client;
  }

  async launch(): Promise<Instance> {
    const body = { image, memoryMib: 96, warm: "require" } as const;
    const { instance, operation } = await this.client.createInstance({ query: long, body });
    expect(operation.error).toBeNull();
    expect(instance.status.start?.mode).toBe("warm");
    return instance;
  }

  /** What an instance says of itself, once it has said it all. */
  async identityOf({ id }: Instance): Promise<Identity> {
    const words = await eventually(async () => {
      const log = await text(await this.client.instanceLogs({ params: { instance: id } }));
      const said = facts.map((fact) => [fact, new RegExp(`^${fact} (\\S+)\r?$`, "m").exec(log)?.[1]] as const);
      for (const [fact, value] of said) expect(value, fact).toBeDefined();
      return Object.fromEntries(said) as Record<(typeof facts)[number], string>;
    });
    const keys = JSON.parse(readFileSync(join(this.dataDir, "instances", id, "channel-keys.json"), "utf8"));
    return { ...words, id, "host key": keys.hostKey };
  }

  async remove({ id }: Instance): Promise<void> {
    const { operation } = await this.client.deleteInstance({
      params: { instance: id },
      query: { ...long, force: true },
    });
    expect(operation.error).toBeNull();
  }

  async end(): Promise<void> {
    await this.berthd.stop();
    removeRules(this.dataDir);
  }
}

/** How many of them are the same as an earlier one. */
function repeated(values: readonly string[]): number {
  return values.length - new Set(values).size;
}

describe("50 clones of one template", () => {
  let clones: Clones;
  const identities: Identity[] = [];

  beforeAll(async () => {
    clones = await Clones.begin(await scratchDirectory("who"));
  });

  afterAll(() => clones?.end());

  it("run, a few at a time", async () => {
    for (let batch = 0; batch < 5; batch++) {
      const made = await Promise.all(Array.from({ length: 10 }, () => clones.launch()));
      identities.push(...(await Promise.all(made.map((instance) => clones.identityOf(instance)))));
      if (batch === 0) await auditQemu(clones.client, clones.dataDir, clones.berthd.pid);
      // The guest lets in only who knows its own key, which the host pins.
      if (batch === 0) await expect(exec(clones.client, made[0]?.id ?? "")).resolves.toBe(127);
      await Promise.all(made.map((instance) => clones.remove(instance)));
    }
    const [template] = (await clones.client.listTemplates()).items;
    expect(template).toMatchObject({ uses: 50, state: "ready" });
  });

  it.each([...facts, "host key"] as const)("no two have the same %s", (fact) => {
    expect(identities).toHaveLength(50);
    expect(repeated(identities.map((identity) => identity[fact]))).toBe(0);
  });

  it("each has read all of its first KiB", () => {
    for (const { random } of identities) expect(random).toMatch(/^[0-9a-f]{2048}$/);
  });
});

/** The exit code of a program that is not there: the channel leads to a guest that knows its key. */
async function exec(client: Client, instance: string): Promise<number> {
  const session = client.exec(instance, { command: ["/first-words/no"] });
  return session.exit;
}
