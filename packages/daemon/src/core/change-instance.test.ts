import { ChangeInstance, type ChangeInstanceInput, CreateInstance, type InstancePhase } from "@berth/api";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  beginChange,
  type Changeable,
  effectsOf,
  endChange,
  keepGrown,
  liveFields,
  type OpenChanges,
  pendingFields,
  type Wishes,
  wishesOf,
  withWishes,
} from "./change-instance.ts";
import { runOf } from "./instance-run.ts";
import { specOf } from "./new-instance.ts";

const spec = specOf(
  CreateInstance.parse({ image: "nginx", env: { A: "1", B: "2" }, ports: [{ guestPort: 80 }], command: ["serve"] }),
);
const web: Changeable = { name: "web", labels: { team: "a", tier: "front" }, spec };
const before = wishesOf(web);
const after = (asked: ChangeInstanceInput) =>
  beginChange(before, null, { operationId: "op", asked: ChangeInstance.parse(asked) }).wishes;

describe("a change", () => {
  it("leaves out what it does not name, takes away what is null, and replaces lists", () => {
    const asked = { env: { A: null, C: "3" }, labels: { team: "b" }, command: null, ports: [{ guestPort: 81 }] };
    const wishes = after(asked);
    expect(wishes).toMatchObject({ env: { B: "2", C: "3" }, labels: { team: "b", tier: "front" }, command: null });
    expect(wishes.env).not.toHaveProperty("A");
    expect(wishes.ports).toEqual([{ hostAddress: "127.0.0.1", hostPort: 0, guestPort: 81, protocol: "tcp" }]);
    expect(wishes).toMatchObject({ cpus: before.cpus, memoryMib: before.memoryMib, name: "web" });
  });

  it("keeps all else of the spec", () => {
    const changed = withWishes(web, after({ cpus: 2, name: "shop" }));
    expect(changed).toEqual({ ...web, name: "shop", spec: { ...spec, cpus: 2 } });
  });

  it("that makes too many labels is refused", () => {
    const labels = Object.fromEntries(Array.from({ length: 63 }, (_, at) => [`l${at}`, "x"]));
    expect(() => after({ labels })).toThrow("at most 64 labels");
    expect(() => after({ labels: { ...labels, team: null } })).not.toThrow();
  });

  it("takes names that mean something to JavaScript as any other", () => {
    const asked = JSON.parse('{"env": {"constructor": "x", "toString": null}}');
    expect(Object.entries(after(asked).env)).toEqual([...Object.entries(spec.env), ["constructor", "x"]]);
  });

  it.each<[ChangeInstanceInput, string[]]>([
    [{}, []],
    [{ cpus: 1, env: { B: "2", A: "1" }, labels: {} }, []],
    [{ labels: { team: null }, stopTimeoutMs: 1 }, ["labels live", "stopTimeoutMs live"]],
    [{ snapshots: { everySeconds: 60 } }, ["snapshots live"]],
    [{ memoryMib: 1024, cpus: 2 }, ["cpus restart", "memoryMib restart"]],
    [
      { env: { A: "2" }, entrypoint: [], command: null, tty: true },
      ["env restart", "entrypoint restart", "command restart", "tty restart"],
    ],
    [{ name: "shop" }, ["name restart"]],
    [{ ports: [] }, ["ports restart"]],
    [{ diskMib: 4096 }, ["diskMib restart"]],
  ])("%j has the effects %j", (asked, expected) => {
    expect(effectsOf(before, after(asked)).map(({ field, takes }) => `${field} ${takes}`)).toEqual(expected);
  });

  it.each<[InstancePhase, boolean, ChangeInstanceInput, string[]]>([
    ["running", true, { diskMib: 4096, ports: [], cpus: 2 }, ["cpus restart", "diskMib live", "ports live"]],
    ["starting", true, { ports: [{ guestPort: 80 }, { hostPort: 1024, guestPort: 81 }] }, ["ports live"]],
    ["running", true, { ports: [{ hostPort: 1023, guestPort: 80 }] }, ["ports restart"]],
    ["running", false, { diskMib: 4096, ports: [] }, ["diskMib restart", "ports restart"]],
    ["stopped", true, { diskMib: 4096, ports: [] }, ["diskMib restart", "ports restart"]],
    ["suspended", true, { diskMib: 4096, ports: [] }, ["diskMib restart", "ports restart"]],
  ])(
    "of one that is %s, where it can be changed meanwhile (%j): %j has the effects %j",
    (phase, can, asked, expected) => {
      const now = after(asked);
      const live = liveFields(phase, { publishes: can, growsDisks: can }, before, now);
      expect(effectsOf(before, now, live).map(({ field, takes }) => `${field} ${takes}`)).toEqual(expected);
    },
  );

  it("grows the root disk, and never makes it smaller", () => {
    const two: Changeable = { ...web, spec: { ...spec, disks: [...spec.disks, { name: "data", sizeMib: 64 }] } };
    const grown = withWishes(two, after({ diskMib: 4096 }));
    expect(grown.spec.disks).toEqual([
      { name: "root", sizeMib: 4096 },
      { name: "data", sizeMib: 64 },
    ]);
    expect(() => after({ diskMib: 1023 })).toThrow("diskMib must be at least 1024: a disk is never made smaller.");
    expect(after({ diskMib: 1024 })).toEqual(before);
  });

  it("that fails leaves a disk as large as it has grown", () => {
    const { wishes, open } = beginChange(before, null, { operationId: "op", asked: { diskMib: 2048, cpus: 2 } });
    const ended = endChange(wishes, open && keepGrown(open, 2048), "op", true);
    expect(ended).toEqual({ wishes: { ...before, diskMib: 2048 }, open: null });
  });
});

describe("what is pending", () => {
  const run = runOf({
    ...web,
    status: { ports: [{ hostAddress: "127.0.0.1", hostPort: 5000, guestPort: 80, protocol: "tcp" }] },
  });
  it.each<[ChangeInstanceInput, string[]]>([
    [{}, []],
    [{ labels: { team: "b" }, stopTimeoutMs: 5 }, []],
    [{ cpus: 2, env: { A: null } }, ["cpus", "env"]],
    [{ ports: [{ hostPort: 5000, guestPort: 80 }] }, []],
    [{ ports: [{ hostPort: 5001, guestPort: 80 }], name: "shop" }, ["name", "ports"]],
    [{ diskMib: 2048 }, ["diskMib"]],
  ])("after %j is %j", (asked, expected) => {
    expect(pendingFields(after(asked), run)).toEqual(expected);
  });

  it("is nothing of the disk for a run that does not say how large it was", () => {
    const { diskMib: _, ...older } = run;
    expect(pendingFields(after({ diskMib: 2048 }), older)).toEqual([]);
  });
});

describe("changes that fail", () => {
  const operations = ["op-1", "op-2", "op-3", "op-4"];
  const value = fc.constantFrom("x", "y", null);
  const asked: fc.Arbitrary<ChangeInstance> = fc.record(
    { cpus: fc.integer({ min: 1, max: 3 }), env: fc.dictionary(fc.constantFrom("A", "B", "C"), value) },
    { requiredKeys: [] },
  );
  const story = fc.array(fc.record({ asked, fails: fc.boolean() }), { minLength: 4, maxLength: 4 });

  it("leave what the others have made, however many wait behind them", () => {
    fc.assert(
      fc.property(story, (changes) => {
        let now: { wishes: Wishes; open: OpenChanges | null } = { wishes: before, open: null };
        const begin = (state: typeof now, at: number) =>
          beginChange(state.wishes, state.open, { operationId: operations[at] ?? "", asked: changes[at]?.asked ?? {} });
        for (const at of changes.keys()) now = begin(now, at);
        for (const [at, { fails }] of changes.entries())
          now = endChange(now.wishes, now.open, operations[at] ?? "", fails);
        // The same as if those had never been asked for.
        let expected: typeof now = { wishes: before, open: null };
        for (const [at, { fails }] of changes.entries())
          if (!fails) expected = begin({ wishes: expected.wishes, open: null }, at);
        expect(now).toEqual({ wishes: expected.wishes, open: null });
      }),
    );
  });
});
