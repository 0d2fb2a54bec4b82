import { describe, expect, it } from "vitest";
import { ConfigError, readConfig } from "./config.ts";

const read = (env: Record<string, string>, uid = 1000, file?: { text: string; mode: number }) =>
  readConfig({ HOME: "/home/ada", ...env }, uid, "/repo", () => file);

describe("settings", () => {
  it("has sane defaults for an ordinary user and for root", () => {
    expect(read({})).toMatchObject({
      dataDir: "/home/ada/.local/share/berth",
      listen: { host: "127.0.0.1", port: 8642 },
      store: { kind: "sqlite", path: "/home/ada/.local/share/berth/berth.db" },
      kitRoot: "/repo/.tools/kit",
    });
    expect(read({}, 0).dataDir).toBe("/var/lib/berth");
    expect(read({ BERTH_DATA_DIR: "", XDG_DATA_HOME: "" }).dataDir).toBe("/home/ada/.local/share/berth");
  });

  it.each([
    ["9000", { host: "127.0.0.1", port: 9000 }],
    [":9000", { host: "127.0.0.1", port: 9000 }],
    ["0.0.0.0:9000", { host: "0.0.0.0", port: 9000 }],
    ["[::1]:0", { host: "::1", port: 0 }],
  ])("listens at %s", (text, expected) => {
    expect(read({ BERTH_LISTEN: text }).listen).toEqual(expected);
  });

  it.each([
    [{ BERTH_LISTEN: "here" }, "BERTH_LISTEN"],
    [{ BERTH_LISTEN: "1.2.3.4:99999" }, "BERTH_LISTEN"],
    [{ BERTH_DATA_DIR: "data" }, "BERTH_DATA_DIR"],
    [{ BERTH_STORE: "mysql://x" }, "BERTH_STORE"],
    [{ BERTH_ALLOW_HOSTS: "registry.lan, no!host" }, "BERTH_ALLOW_HOSTS"],
    [{ BERTH_ALLOW_HOSTS: "10.0.0.0/33" }, "BERTH_ALLOW_HOSTS"],
    [{ BERTH_ALLOW_HOSTS: "fd00::/129" }, "BERTH_ALLOW_HOSTS"],
    [{ BERTH_DRIVER: "xen" }, "BERTH_DRIVER"],
    [{ BERTH_READY_TIMEOUT: "soon" }, "BERTH_READY_TIMEOUT"],
  ])("refuses %o by name", (env, name) => {
    expect(() => read(env)).toThrow(ConfigError);
    expect(() => read(env)).toThrow(name);
  });

  it("lists the hosts that may be fetched from", () => {
    expect(read({ BERTH_ALLOW_HOSTS: "localhost:5000, git.internal" }).allowHosts).toEqual([
      "localhost:5000",
      "git.internal",
    ]);
  });

  it("knows who to be at a registry from a file that only its user reads", () => {
    const auth = Buffer.from("ada:secret").toString("base64");
    const withAuth = (path: string, mode: number, text = JSON.stringify({ auths: { "ghcr.io": { auth } } })) =>
      readConfig({ HOME: "/home/ada", BERTH_REGISTRY_AUTH: path }, 1000, "/repo", (asked) =>
        asked === "/etc/auth.json" ? { text, mode } : undefined,
      );
    const { registryCredentials } = withAuth("/etc/auth.json", 0o100600);
    expect(registryCredentials("ghcr.io")).toEqual({ username: "ada", password: "secret" });
    expect(registryCredentials("docker.io")).toBeUndefined();
    expect(read({}).registryCredentials("ghcr.io")).toBeUndefined();
    expect(() => withAuth("/etc/auth.json", 0o100640)).toThrow(/chmod 600 \/etc\/auth\.json/);
    expect(() => withAuth("/etc/auth.json", 0o100600, "{")).toThrow(
      /auth\.json \(BERTH_REGISTRY_AUTH\): it is not JSON/,
    );
    expect(() => withAuth("/etc/none.json", 0o100600)).toThrow(/none\.json, which is not there/);
    expect(() => withAuth("auth.json", 0o100600)).toThrow(ConfigError);
  });

  it("takes from its file what the environment does not say", () => {
    const file = { text: "# ours\nBERTH_LISTEN=127.0.0.1:1\nBERTH_LOG_LEVEL=warn\n", mode: 0o644 };
    expect(read({ BERTH_LISTEN: "127.0.0.1:2" }, 1000, file)).toMatchObject({ listen: { port: 2 }, logLevel: "warn" });
  });

  it.each([
    ["BERTH_DATA_DIR=/elsewhere", 0o600, "sets BERTH_DATA_DIR"],
    ["BERTH_LISTN=1", 0o600, "sets BERTH_LISTN"],
    ["BERTH_STORE=postgres://u:secret@db/berth", 0o644, "chmod 600"],
  ])("refuses a file with %s", (text, mode, words) => {
    expect(() => read({}, 1000, { text, mode })).toThrow(words);
  });
});
