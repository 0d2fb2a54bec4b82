import type { StartConfig } from "@berth/api";
import { describe, expect, it } from "vitest";
import { processFrom, signalNumber } from "./config.ts";

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
    expect(processFrom(image, { ...spec, ...over }).argv).toEqual(argv);
  });

  it("has the instance's variables over the image's, and docker's PATH when there is none", () => {
    expect(processFrom(image, { ...spec, env: { A: "2", B: "=" } }).env).toEqual(["PATH=/bin", "A=2", "B=="]);
    expect(processFrom({ ...image, env: [] }, spec).env[0]).toMatch(/^PATH=\/usr\/local\/sbin:/);
  });
});

describe("a signal", () => {
  it.each([
    ["", 15],
    ["SIGQUIT", 3],
    ["int", 2],
    ["9", 9],
    ["RTMIN+3", 37],
    ["SIGRTMAX-1", 63],
  ])("%s is number %i", (text, number) => {
    expect(signalNumber(text)).toBe(number);
  });

  it.each(["SIGNOPE", "0", "65", "RTMIN+40", "-1"])("%s is none", (text) => {
    expect(() => signalNumber(text)).toThrow(expect.objectContaining({ code: "invalid_request" }));
  });
});
