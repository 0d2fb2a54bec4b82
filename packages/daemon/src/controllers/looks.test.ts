import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { Looks } from "./looks.ts";

/** Looks that end when they are told to. */
function held(limit: number) {
  const begun: string[] = [];
  const failed: string[] = [];
  const ends: (() => void)[] = [];
  const looks = new Looks(
    limit,
    async (id) => {
      begun.push(id);
      await new Promise<void>((resolve) => ends.push(resolve));
      if (id === "bad") throw new Error("on purpose");
    },
    (id) => failed.push(id),
  );
  const endFirst = async () => {
    ends.shift()?.();
    await turn();
  };
  return { looks, begun, failed, endFirst };
}

test("never looks at more than the limit at once, in the order asked for", async () => {
  const { looks, begun, endFirst } = held(2);
  for (const id of ["a", "b", "c", "d"]) void looks.ask(id);
  expect(begun).toEqual(["a", "b"]);
  await endFirst();
  expect(begun).toEqual(["a", "b", "c"]);
  await endFirst();
  await endFirst();
  await endFirst();
  await looks.idle();
  expect(begun).toEqual(["a", "b", "c", "d"]);
});

test("asked again during a look, looks once more afterwards, however often it was asked", async () => {
  const { looks, begun, endFirst } = held(2);
  const first = looks.ask("a");
  const again = [looks.ask("a"), looks.ask("a")];
  expect(begun).toEqual(["a"]);
  await endFirst();
  await first;
  expect(begun).toEqual(["a", "a"]);
  await endFirst();
  await Promise.all(again);
  expect(begun).toEqual(["a", "a"]);
});

test("one that fails is told of and holds nobody up", async () => {
  const { looks, begun, failed, endFirst } = held(1);
  const bad = looks.ask("bad");
  void looks.ask("good");
  await endFirst();
  await bad;
  expect(failed).toEqual(["bad"]);
  expect(begun).toEqual(["bad", "good"]);
  await endFirst();
  await looks.idle();
});
