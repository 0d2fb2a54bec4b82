import { BerthError } from "@berth/api";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ByteSource, readTar, type TarEntry } from "../../core/tar.ts";
import { type TarItem, writeTar } from "../../core/testing/tar-writer.ts";
import { type MergeLimits, mergeLayers } from "./merge.ts";
import type { DirectoryNode, TreeNode } from "./tree.ts";

const refuse = (why: string) => new BerthError("unsafe_image", why);
const limits: MergeLimits = { maxEntries: 1000, maxBytes: 1_000_000 };

function source(bytes: Buffer): ByteSource {
  return { size: bytes.length, read: (buffer, position) => bytes.copy(buffer, 0, position) };
}

function merge(
  layers: readonly (readonly TarItem[])[],
  log: (line: string) => void = () => {},
  bounds: MergeLimits = limits,
): DirectoryNode {
  return mergeLayers(
    layers.map((items, index) => ({
      name: `layer${index}`,
      entries: readTar(source(writeTar(items)), refuse),
    })),
    bounds,
    log,
  );
}

/** Every path with what it is. */
function paths(node: TreeNode, at = ""): Record<string, string> {
  if (node.kind !== "directory") {
    return {
      [at]:
        node.kind === "file" ? `file ${node.content.layer}` : node.kind === "symlink" ? `-> ${node.target}` : node.kind,
    };
  }
  const inner = [...node.children].map(([name, child]) => paths(child, at === "" ? name : `${at}/${name}`));
  return Object.assign(at === "" ? {} : { [at]: "directory" }, ...inner);
}

const file = (path: string, more: Partial<TarItem> = {}): TarItem => ({ path, content: path, ...more });
const directory = (path: string, more: Partial<TarItem> = {}): TarItem => ({
  path: `${path}/`,
  type: "5",
  mode: 0o755,
  ...more,
});
const link = (path: string, target: string): TarItem => ({ path, type: "2", target });
const hardLink = (path: string, target: string): TarItem => ({ path, type: "1", target });

describe("mergeLayers", () => {
  test("a whiteout hides what lower layers brought, not its own layer's", () => {
    const lower = [directory("d"), file("d/old"), file("d/both"), file("kept")];
    const upper = [file("d/both"), file("d/.wh.both"), file("d/.wh.old"), file("d/.wh.never-was")];
    expect(paths(merge([lower, upper]))).toEqual({ d: "directory", "d/both": "file 1", kept: "file 0" });
  });

  test("an opaque directory hides all below it, wherever its marker stands", () => {
    const lower = [directory("d"), file("d/a"), directory("d/sub"), file("d/sub/b")];
    const upper = [directory("d"), file("d/new"), file("d/.wh..wh..opq")];
    expect(paths(merge([lower, upper]))).toEqual({ d: "directory", "d/new": "file 1" });
  });

  test("a directory keeps its children when only its attributes change", () => {
    const tree = merge([[directory("d"), file("d/a")], [directory("d", { mode: 0o700, uid: 7 })]]);
    expect(tree.children.get("d")).toMatchObject({ mode: 0o700, uid: 7 });
    expect(paths(tree)).toEqual({ d: "directory", "d/a": "file 0" });
  });

  test("a file takes the place of a directory and the other way round", () => {
    expect(paths(merge([[directory("x"), file("x/a")], [file("x")]]))).toEqual({ x: "file 1" });
    expect(paths(merge([[file("x")], [directory("x"), file("x/a")]]))).toEqual({ x: "directory", "x/a": "file 1" });
    expect(paths(merge([[file("x")], [file("x/a")]]))).toEqual({ x: "directory", "x/a": "file 1" });
  });

  test("hard links share one file, across layers and after the first name went", () => {
    const tree = merge(
      [
        [file("a"), hardLink("b", "a")],
        [hardLink("c", "b"), file(".wh.a")],
      ].map((items) => [...items]),
    );
    expect(tree.children.get("b")).toBe(tree.children.get("c"));
    expect(paths(tree)).toEqual({ b: "file 0", c: "file 0" });
  });

  test("an entry below a symbolic link goes where the link leads inside the image", () => {
    const lower = [directory("usr"), directory("usr/lib"), link("lib", "usr/lib"), link("abs", "/usr/lib")];
    expect(paths(merge([lower, [file("lib/x"), file("abs/y")]]))).toMatchObject({
      lib: "-> usr/lib",
      "usr/lib/x": "file 1",
      "usr/lib/y": "file 1",
    });
  });

  test("device nodes are left out, with a word in the log", () => {
    const lines: string[] = [];
    const tree = merge([[{ path: "null", type: "3" }, { path: "sda", type: "4" }, file("a")]], (line) =>
      lines.push(line),
    );
    expect(paths(tree)).toEqual({ a: "file 0" });
    expect(lines).toEqual(["Left out 2 device nodes of layer layer0: a VM makes its own."]);
  });

  test.each<[string, TarItem[], RegExp]>([
    ["..", [file("a/../../b")], /climbs out/],
    ["an absolute path", [file("/etc/passwd")], /absolute/],
    ["a parent that leads out", [link("out", "../.."), file("out/x")], /leads out of the image/],
    ["a loop of links", [link("a", "b"), link("b", "a"), file("a/x")], /too many symbolic links/],
    ["a hard link with ..", [hardLink("a", "../../etc/shadow")], /climbs out/],
    ["an absolute hard link", [hardLink("a", "/etc/shadow")], /absolute/],
    ["a hard link to nothing", [hardLink("a", "b")], /not there/],
    ["a hard link to a directory", [directory("d"), hardLink("a", "d")], /directory/],
    ["a hard link through a link that leads out", [link("out", ".."), hardLink("a", "out/x")], /leads out/],
    ["a whiteout of ..", [file("d/.wh...")], /must name what it hides/],
    ["a whiteout through a link that leads out", [file("out/.wh.x")], /leads out/],
    ["a name that is too long", [file("x", { pax: { path: "n".repeat(256) } })], /more than 255/],
    ["a root that is no directory", [link("./", "x")], /the root can only be a directory/],
  ])("%s is refused, naming layer and entry", (_what, items, words) => {
    const lower = items[0]?.path === "out/.wh.x" ? [link("out", "../x")] : [];
    const attempt = () => merge([lower, items]);
    expect(attempt).toThrow(BerthError);
    expect(attempt).toThrow(words);
    expect(attempt).toThrow(/Layer layer1, entry "/);
  });

  test.each<[string, TarItem[]]>([
    ["..", [file("a/../../b")]],
    ["an absolute path", [file("/etc/passwd")]],
    ["a parent that leads out", [link("out", "../.."), file("out/x")]],
  ])("without the protection %s is let in", (_what, items) => {
    expect(() => merge([items], () => {}, { ...limits, trusting: true })).not.toThrow();
  });

  test("bombs end at the limits", () => {
    const many = Array.from({ length: 20 }, (_unused, index) => file(`f${index}`));
    expect(() => merge([many], () => {}, { maxEntries: 19, maxBytes: 1e6 })).toThrow(/more than 19 entries/);
    expect(() => merge([many], () => {}, { maxEntries: 99, maxBytes: 10 })).toThrow(/more than 10 bytes/);
    expect(() => merge([many], () => {}, { maxEntries: 99, maxBytes: 1e6 })).not.toThrow();
  });

  test("attributes, which are held in memory, are bounded too", () => {
    const heavy = new Map([["user.a", Buffer.alloc(1024 * 1024)]]);
    const [sample] = readTar(source(writeTar([file("f")])), refuse);
    const entries = (count: number) =>
      Array.from({ length: count }, (_unused, index) => ({ ...sample, path: `f${index}`, xattrs: heavy }) as TarEntry);
    expect(() => mergeLayers([{ name: "layer0", entries: entries(64) }], limits, () => {})).toThrow(/attributes/);
    expect(() => mergeLayers([{ name: "layer0", entries: entries(63) }], limits, () => {})).not.toThrow();
  });

  // The model: a plain map of paths, on which each layer's deletions come first, then its additions.
  const name = fc.constantFrom("a", "b", "c");
  const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
  const change = fc.oneof(
    fc.record({ kind: fc.constant("file" as const), path }),
    fc.record({ kind: fc.constant("directory" as const), path }),
    fc.record({ kind: fc.constant("whiteout" as const), path }),
    fc.record({ kind: fc.constant("opaque" as const), path }),
  );

  test("any layers give what a plain map of paths gives", () => {
    fc.assert(
      fc.property(fc.array(fc.array(change, { maxLength: 8 }), { maxLength: 4 }), (layers) => {
        const model = new Map<string, string>();
        const removeBelow = (at: string) => {
          for (const key of [...model.keys()]) if (key.startsWith(`${at}/`)) model.delete(key);
        };
        const makeParents = (at: string) => {
          const parts = at.split("/").slice(0, -1);
          parts.forEach((_part, index) => {
            const parent = parts.slice(0, index + 1).join("/");
            if (model.get(parent) !== "directory") model.set(parent, "directory");
          });
        };
        layers.forEach((changes, index) => {
          for (const { kind, path: at } of changes) {
            if (kind === "opaque" && model.get(at) === "directory") removeBelow(at);
            if (kind === "whiteout") {
              model.delete(at);
              removeBelow(at);
            }
          }
          for (const { kind, path: at } of changes) {
            if (kind !== "file" && kind !== "directory") continue;
            makeParents(at);
            if (kind === "file") removeBelow(at);
            model.set(at, kind === "file" ? `file ${index}` : "directory");
          }
        });
        const items = layers.map((changes) =>
          changes.map(({ kind, path: at }): TarItem => {
            if (kind === "file") return file(at);
            if (kind === "directory") return directory(at);
            if (kind === "opaque") return file(`${at}/.wh..wh..opq`);
            const slash = at.lastIndexOf("/");
            return file(`${at.slice(0, slash + 1)}.wh.${at.slice(slash + 1)}`);
          }),
        );
        expect(paths(merge(items))).toEqual(Object.fromEntries(model));
      }),
      { numRuns: 500 },
    );
  });
});
