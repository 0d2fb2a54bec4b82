import { expect, test } from "vitest";
import { completionScripts } from "./completion-scripts.ts";
import { FakeBerthd } from "./testing/fake-berthd.ts";
import { runBerth } from "./testing/run-berth.ts";

test.each(Object.keys(completionScripts))("berth completion %s", async (shell) => {
  const ran = await runBerth(["completion", shell]);
  expect(ran).toMatchObject({ code: 0, stdout: completionScripts[shell] });
  expect(ran.stdout).toContain("berth __complete --");
  expect(ran.stdout).not.toContain("\\$");
});

test.each([
  [["im"], ["import", "image"]],
  [["image", "p"], ["pull"]],
  [["launch", "--det"], ["--detach"]],
  [["completion", "z"], ["zsh"]],
  [["ls", "--phase", "run"], ["running"]],
])("%j", async (words, proposals) => {
  const ran = await runBerth(["__complete", "--", ...words]);
  expect(
    ran.stdout
      .split("\n")
      .filter(Boolean)
      .map((line) => line.split("\t")[0]),
  ).toEqual(proposals);
});

test("names of instances", async () => {
  const berthd = await FakeBerthd.start();
  expect((await runBerth(["__complete", "--", "stop", "w"], { url: berthd.url })).stdout).toBe(
    "web\tAn instance's name or id\n",
  );
  await berthd.stop();
  expect(await runBerth(["__complete", "--", "stop", "w"])).toMatchObject({ code: 0, stdout: "" });
});
