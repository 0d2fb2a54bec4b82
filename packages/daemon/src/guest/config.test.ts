import type { StartConfig } from "@berth/api";
import { describe, expect, it } from "vitest";
import { guestVolumes, machineIdOf, processFrom } from "./config.ts";

const image: StartConfig = {
  ...{ entrypoint: ["/entry"], cmd: ["serve", "-v"], env: ["PATH=/bin", "A=1"], user: "app", workingDir: "" },
  ...{ exposedPorts: [], stopSignal: "", volumes: [], labels: {} },
};
const spec = { entrypoint: null, command: null, env: {}, tty: false };

describe("an instance's process", () => {
  it.each([
    ["is the image's own", {}, ["/entry", "serve", "-v"]],
    ["takes another command", { command: ["check"] }, ["/entry", "check"]],
    ["drops the image's command with its entrypoint", { entrypoint: ["sh"] }, ["sh"]],
    ["takes both", { entrypoint: ["sh"], command: ["-c", "id"] }, ["sh", "-c", "id"]],
    ["has no entrypoint when it is emptied", { entrypoint: [""], command: ["id"] }, ["id"]],
    ["keeps empty arguments", { command: ["", "x"] }, ["/entry", "", "x"]],
  ])("%s", (_, over, argv) => {
    expect(processFrom(image, { ...spec, ...over }, "web").argv).toEqual(argv);
  });

  it("has the instance's variables over the image's, and what docker sets when neither does", () => {
    const envOf = (env: string[], over: Partial<typeof spec> & { env?: Record<string, string> }) =>
      processFrom({ ...image, env }, { ...spec, ...over }, "web").env;
    expect(envOf(["PATH=/bin", "A=1"], { env: { A: "2", B: "=" } })).toEqual([
      "PATH=/bin",
      "HOSTNAME=web",
      "A=2",
      "B==",
    ]);
    expect(envOf([], {})[0]).toMatch(/^PATH=\/usr\/local\/sbin:/);
    expect(envOf([], { tty: true })).toContain("TERM=xterm");
    expect(envOf(["TERM=vt100"], { tty: true, env: { HOSTNAME: "other" } }).slice(1)).toEqual([
      "HOSTNAME=other",
      "TERM=vt100",
    ]);
  });
});

it("gives each instance a machine-id of its own, always the same", () => {
  const [one, other] = ["i-1", "i-2"].map(machineIdOf);
  expect(one).toMatch(/^[0-9a-f]{32}$/);
  expect(other).not.toBe(one);
  expect(machineIdOf("i-1")).toBe(one);
});

describe("the volumes a guest is told of", () => {
  it("have folders with names that are good for one, and never two of the same", () => {
    const long = `/${"ä/".repeat(200)}`;
    const volumes = ["/a b", "/a%20b", "/new-/a", long, `${long}b`];
    const folders = guestVolumes({ volumes }).map(({ folder }) => folder);
    expect(new Set(folders).size).toBe(volumes.length);
    for (const folder of folders) {
      expect(Buffer.byteLength(folder)).toBeLessThanOrEqual(255);
      expect(folder).toMatch(/^(?!new-)[^/.][^/]*$/);
    }
    expect(guestVolumes({ volumes: ["/var/lib/db"] })).toEqual([{ path: "/var/lib/db", folder: "%2Fvar%2Flib%2Fdb" }]);
  });
});
