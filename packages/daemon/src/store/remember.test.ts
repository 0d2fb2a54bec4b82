import { expect, test } from "vitest";
import { rememberByRow } from "./remember.ts";

interface Row {
  readonly id: string;
  readonly spec: string;
  readonly extra?: string;
}

function counting() {
  let reads = 0;
  const toObject = rememberByRow((row: Row) => {
    reads += 1;
    return { id: row.id, spec: JSON.parse(row.spec) as { ports: number[] } };
  });
  return { toObject, reads: () => reads };
}

test("a row is read apart once, and again when any of its columns is another", () => {
  const { toObject, reads } = counting();
  const first = toObject({ id: "a", spec: '{"ports":[1]}' });
  expect(toObject({ id: "a", spec: '{"ports":[1]}' })).toBe(first);
  expect(reads()).toBe(1);
  expect(toObject({ id: "a", spec: '{"ports":[2]}' })).toEqual({ id: "a", spec: { ports: [2] } });
  expect(toObject({ id: "a", spec: '{"ports":[2]}', extra: "x" }).spec.ports).toEqual([2]);
  expect(toObject({ id: "a", spec: '{"ports":[2]}' }).spec.ports).toEqual([2]);
  expect(reads()).toBe(4);
});

test("what is shared cannot be changed", () => {
  const { toObject } = counting();
  const { spec } = toObject({ id: "a", spec: '{"ports":[1]}' });
  expect(() => spec.ports.push(2)).toThrow(TypeError);
});

test("more rows than are remembered stay right", () => {
  const { toObject } = counting();
  for (let round = 0; round < 2; round++) {
    for (let index = 0; index < 1200; index++) {
      expect(toObject({ id: `i${index}`, spec: `{"ports":[${index}]}` }).spec.ports).toEqual([index]);
    }
  }
});
