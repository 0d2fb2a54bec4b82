import { expect, test } from "vitest";
import { choosePlatform, parseConfig, parseManifest } from "./manifest.ts";
import { toStartConfig } from "./start-config.ts";

const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));
const entry = (letter: string, os: string, architecture: string, variant?: string) => ({
  mediaType: "application/vnd.oci.image.manifest.v1+json",
  digest: digest(letter),
  size: 1,
  ...(os ? { platform: { os, architecture, ...(variant ? { variant } : {}) } } : {}),
});

test.each([
  ["amd64", "b"],
  ["arm64", "d"],
])("this platform is chosen: linux/%s", (architecture, letter) => {
  const manifests = [
    entry("a", "windows", "amd64"),
    entry("e", "linux", "amd64", "v3"),
    entry("b", "linux", "amd64"),
    entry("c", "unknown", "unknown"),
    entry("d", "linux", "arm64", "v8"),
    entry("f", "", ""),
  ];
  expect(choosePlatform(bytes({ manifests }), architecture).digest).toBe(digest(letter));
});

test("without this platform it is said what there is", () => {
  const manifests = [
    entry("a", "windows", "amd64"),
    entry("b", "linux", "arm", "v7"),
    entry("c", "unknown", "unknown"),
  ];
  expect(() => choosePlatform(bytes({ manifests }), "amd64")).toThrow(
    "no linux/amd64 variant, only windows/amd64, linux/arm/v7.",
  );
});

test.each([
  ["text", Buffer.from("no json")],
  ["nothing", bytes({})],
  ["a digest of another kind", bytes({ config: { mediaType: "x", digest: "sha512:aa", size: 1 }, layers: [] })],
  [
    "a chart",
    bytes({
      config: { mediaType: "application/vnd.cncf.helm.config.v1+json", digest: digest("a"), size: 1 },
      layers: [],
    }),
  ],
])("%s is no image", (_what, manifest) => {
  expect(() => parseManifest(manifest)).toThrow(expect.objectContaining({ code: "unsupported_image" }));
});

test("a configuration becomes the way to start, nulls and all", () => {
  const config = {
    architecture: "amd64",
    os: "linux",
    config: {
      Entrypoint: ["/a"],
      Cmd: null,
      Env: ["A=1"],
      User: "u:g",
      WorkingDir: "/w",
      ExposedPorts: { "80/tcp": {}, "443/tcp": {} },
      StopSignal: "SIGINT",
      Volumes: { "/v": {} },
      Labels: { l: "1" },
    },
    rootfs: { type: "layers", diff_ids: [] },
  };
  expect(toStartConfig(parseConfig(bytes(config)))).toEqual({
    entrypoint: ["/a"],
    cmd: [],
    env: ["A=1"],
    user: "u:g",
    workingDir: "/w",
    exposedPorts: ["443/tcp", "80/tcp"],
    stopSignal: "SIGINT",
    volumes: ["/v"],
    labels: { l: "1" },
  });
  expect(toStartConfig(parseConfig(bytes({ rootfs: { type: "layers", diff_ids: [] } }))).cmd).toEqual([]);
});

test("an image whose stop signal is none is refused: it could never be stopped as it wants to be", () => {
  const config = { config: { StopSignal: "SIGFOO" }, rootfs: { type: "layers", diff_ids: [] } };
  expect(() => toStartConfig(parseConfig(bytes(config)))).toThrow(
    expect.objectContaining({ code: "unsupported_image", message: 'Its STOPSIGNAL "SIGFOO" is no signal.' }),
  );
});
