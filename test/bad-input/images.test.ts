import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import type { ErrorCode } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type TarItem, writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import {
  digestOf,
  type FakeRegistry,
  startFakeRegistry,
} from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { freePort } from "../support/ports.ts";
import { expectFailed, expectRefused } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";

const long = { wait: 60 } as const;

let registry: FakeRegistry;
let berthd: Berthd;
let scratch: string;
let dataDir: string;
let deadHost: string;

beforeAll(async () => {
  registry = await startFakeRegistry();
  deadHost = `127.0.0.1:${await freePort()}`;
  scratch = await scratchDirectory("img");
  dataDir = join(scratch, "data");
  const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: `${registry.host},${deadHost}` };
  berthd = await startBerthd({ dataDir, env });
});

afterAll(async () => {
  await berthd?.stop();
  await registry?.[Symbol.asyncDispose]();
});

/** Nothing half-made is left, and no image that could be taken for a good one. */
afterEach(async () => {
  registry.intercept = () => false;
  await audit(berthd.client, dataDir);
  expect((await berthd.client.listInstances({ query: {} })).items).toEqual([]);
});

const pull = (reference: string) => berthd.client.pullImage({ query: long, body: { reference } });
const logOf = async (id: string) => text(await berthd.client.operationLog({ params: { operation: id }, query: {} }));
const layer = (...items: TarItem[]) => writeTar(items);

describe("an image that is not there", () => {
  it.each<[string, () => string, ErrorCode, RegExp]>([
    ["unknown", () => `${registry.host}/no/such`, "image_not_found", /no\/such/],
    ["an unknown tag", () => `${registry.host}/known:other`, "image_not_found", /known/],
    ["an unknown digest", () => `${registry.host}/known@${digestOf("nothing")}`, "image_not_found", /known/],
    ["a registry that nobody runs", () => `${deadHost}/app`, "registry_unreachable", /ECONNREFUSED/],
    ["a registry without a name", () => "no-such-registry.invalid/app", "registry_unreachable", /no-such-registry/],
    [
      "a name of what is built here",
      () => "localhost/no-such",
      "image_not_found",
      /no-such:latest: only images that were built/,
    ],
    ["a registry on loopback that nobody listed", () => "127.0.0.1:9/app", "address_refused", /127\.0\.0\.1/],
  ])("%s", async (_what, reference, code, detail) => {
    registry.addImage("known", "latest", [layer({ path: "f" })]);
    await expectFailed(pull(reference()), code, detail);
    const { items } = await berthd.client.listImages({ query: { reference: reference() } });
    expect(items, "the failed image does not have the reference").toEqual([]);
  });

  it("another attempt takes the place of a failed one", async () => {
    const reference = `${registry.host}/not/yet`;
    const attempts = async () => {
      const { items } = await berthd.client.listImages({ query: { limit: 500 } });
      return items.filter(({ source }) => source.type === "registry" && source.reference === `${reference}:latest`);
    };
    for (const _time of [1, 2]) await expectFailed(pull(reference), "image_not_found", /not\/yet/);
    expect(await attempts()).toMatchObject([{ state: "failed" }]);
  });

  it("a launch of it fails with the same words, and leaves no instance", async () => {
    const asked = berthd.client.createInstance({ query: long, body: { image: `${registry.host}/no/such`, name: "x" } });
    await expectFailed(asked, "image_not_found", /no\/such/);
  });

  it.each(["", " ", "app/UPPER", "a//b", "a:b:c", "-/x", `x@sha256:${"0".repeat(63)}`])(
    "a reference that is none: %j",
    async (reference) => {
      await expectRefused(pull(reference), reference === "" ? "invalid_request" : "invalid_reference", /./);
    },
  );
});

describe("a registry", () => {
  it("that dies halfway", async () => {
    const bytes = layer({ path: "f", content: "z".repeat(300_000) });
    registry.addImage("dying", "latest", [bytes]);
    registry.intercept = (request, response) => {
      if (!request.url?.endsWith(digestOf(bytes))) return false;
      response.writeHead(200, { "content-length": bytes.length });
      response.write(bytes.subarray(0, 100_000), () => response.destroy());
      return true;
    };
    await expectFailed(pull(`${registry.host}/dying`), "registry_unreachable", /broke off after \d+ of \d+ bytes/);
    registry.intercept = () => false;
    expect((await pull(`${registry.host}/dying`)).operation.error).toBeNull();
  });

  it("that lies about a layer", async () => {
    const bytes = layer({ path: "f", content: "true" });
    registry.addImage("lying", "latest", [bytes]);
    registry.blobs.set(digestOf(bytes), layer({ path: "f", content: "lies" }));
    await expectFailed(pull(`${registry.host}/lying`), "digest_mismatch", digestOf(bytes));
    expect(readdirSync(join(dataDir, "blobs/sha256"))).not.toContain(digestOf(bytes).slice("sha256:".length));
  });

  it("that lies about a manifest", async () => {
    const digest = registry.addImage("lied", "latest", [layer()]);
    registry.manifests.set(`lied/${digest}`, Buffer.from(`${registry.manifests.get(`lied/${digest}`)} `));
    await expectFailed(pull(`${registry.host}/lied@${digest}`), "digest_mismatch", digest);
  });

  it("that answers with nonsense", async () => {
    registry.manifests.set("nonsense/latest", Buffer.from("{"));
    await expectFailed(pull(`${registry.host}/nonsense`), "unsupported_image", /./);
    registry.intercept = (_request, response) => response.writeHead(500).end("<html>oh no</html>") && true;
    await expectFailed(pull(`${registry.host}/broken`), "registry_error", /500/);
  });
});

describe("a layer", () => {
  const folder = { path: "d", type: "5" };
  it.each<[string, TarItem[], RegExp]>([
    ["that climbs out", [{ path: "../out", content: "x" }], /entry "\.\.\/out": .*climbs out/],
    ["that climbs out in the middle", [folder, { path: "d/../../out", content: "x" }], /climbs out/],
    ["with a hard link that climbs out", [{ path: "h", type: "1", target: "../../etc/shadow" }], /entry "h": /],
    ["with a hard link to what is not there", [{ path: "h", type: "1", target: "gone" }], /entry "h": /],
  ])("%s", async (_what, items, detail) => {
    registry.addImage("hostile", "latest", [layer(...items)]);
    await expectFailed(pull(`${registry.host}/hostile`), "unsafe_image", detail);
  });

  it("with absolute and escaping symbolic links stays within the image", async () => {
    const items = [
      { path: "/abs", content: "inside" },
      { path: "link", type: "2", target: "../../../../../../tmp" },
      { path: "link/planted", content: "inside too" },
    ];
    registry.addImage("escaping", "latest", [layer(...items)]);
    const { operation } = await pull(`${registry.host}/escaping`);
    if (operation.error) expect(operation.error.code).toBe("unsafe_image");
    expect(readdirSync("/tmp")).not.toContain("planted");
  });

  it("that is a bomb", async () => {
    const plain = layer({ path: "zeros", content: Buffer.alloc(300 * 2 ** 20) });
    registry.addImage("bomb", "latest", [gzipSync(plain)], { diffIds: [digestOf(plain)] });
    await expectFailed(pull(`${registry.host}/bomb`), "unsafe_image", /unpacks to/);
  });

  it("with device nodes is taken without them, with a word in the log", async () => {
    registry.addImage("devices", "latest", [layer({ path: "null", type: "3" }, { path: "f", content: "x" })]);
    const { operation } = await pull(`${registry.host}/devices`);
    expect(operation.error).toBeNull();
    expect(await logOf(operation.id)).toContain("Left out 1 device node of layer");
  });
});

describe("a Dockerfile that fails", () => {
  function contextOf(...lines: string[]): { reference: string; source: { type: "directory"; path: string } } {
    const path = join(scratch, "context");
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "Dockerfile"), `${lines.join("\n")}\n`);
    return { reference: "localhost/failing", source: { type: "directory", path } };
  }

  it.each<[string, string[], ErrorCode, RegExp]>([
    ["a file that is not there", ["FROM scratch", "COPY nothing /"], "build_failed", /line 2\b.*nothing/],
    ["an instruction there is none of", ["FROM scratch", "", "MAKE it"], "build_failed", /line 3\b/],
    ["nothing to begin with", ["# empty"], "build_failed", /Dockerfile/],
    ["a base that is not there", ["FROM no-such-registry.invalid/x"], "registry_unreachable", /no-such-registry/],
  ])("%s", async (_what, lines, code, detail) => {
    const body = contextOf(...lines);
    const operation = await expectFailed(berthd.client.buildImage({ query: long, body }), code, detail);
    expect((await berthd.client.listImages({ query: { reference: body.reference } })).items).toEqual([]);
    expect((await berthd.client.getOperation({ params: { operation: operation.id } })).error?.code).toBe(code);
  });

  it("a folder or Dockerfile that is not there", async () => {
    const source = { type: "directory" as const, path: join(scratch, "no-such-folder") };
    await expectFailed(
      berthd.client.buildImage({ query: long, body: { reference: "localhost/failing", source } }),
      "invalid_request",
      /./,
    );
    const body = { ...contextOf("FROM scratch"), dockerfile: "../Dockerfile" };
    await expectFailed(berthd.client.buildImage({ query: long, body }), "invalid_request", /./);
  });

  it("can be read while it runs and afterwards", async () => {
    const busybox = layer({ path: "bin", type: "5" });
    registry.addImage("base", "latest", [busybox]);
    let letGo = () => {};
    const asked = new Promise<void>((resolve) => {
      registry.intercept = (request, response) => {
        if (!request.url?.includes("/second/")) return false;
        letGo = () => response.writeHead(404).end();
        resolve();
        return true;
      };
    });
    const body = contextOf(
      `FROM ${registry.host}/base AS one`,
      `FROM ${registry.host}/second AS two`,
      "COPY --from=one /bin /",
    );
    const { operation } = await berthd.client.buildImage({ query: {}, body });
    await asked;
    const following = text(
      await berthd.client.operationLog({ params: { operation: operation.id }, query: { follow: true } }),
    );
    letGo();
    const ended = await berthd.client.waitOperation({ params: { operation: operation.id }, query: { timeout: 60 } });
    expect(ended.error?.code).toBe("image_not_found");
    expect(await following).toBe(await logOf(operation.id));
    // One that failed shows the instruction it came to.
    const after = await expectFailed(
      berthd.client.buildImage({ query: long, body: contextOf("FROM scratch", "COPY nothing /") }),
      "build_failed",
      /line 2/,
    );
    expect(await logOf(after.id)).toMatch(/STEP 2\/2: COPY nothing/);
  });
});

describe("an image that the node's disk damaged", () => {
  it("is brought back by the next pull of it", async () => {
    const tar = layer({ path: "f", content: "whole" });
    const blob = gzipSync(tar);
    registry.addImage("worn", "latest", [blob], { diffIds: [digestOf(tar)] });
    const reference = `${registry.host}/worn`;
    await pull(reference);
    for (const made of ["artifacts", "layers"]) rmSync(join(dataDir, made), { recursive: true });
    const path = join(dataDir, "blobs/sha256", digestOf(blob).slice("sha256:".length));
    writeFileSync(path, Buffer.from(blob).fill(0, 20, 30));
    const { operation } = await berthd.client.pullImage({ query: long, body: { reference, refresh: true } });
    expect(await logOf(operation.id)).toContain(`damaged ${digestOf(blob)}; fetching again`);
    expect(readFileSync(path)).toEqual(blob);
  });
});
