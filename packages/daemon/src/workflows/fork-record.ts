import { BerthError } from "@berth/api";
import { z } from "zod";
import type { StepContext } from "../operations/workflow.ts";
import { readInstance } from "../store/instances.ts";
import type { InstanceInput } from "./instance-input.ts";
import type { FindMoment } from "./moment.ts";
import type { Services } from "./services.ts";

/** What a fork was asked. */
export const ForkInput = z.object({
  /** The folder of the moment that the children go on from. */
  folder: z.string(),
  /** The parent's memory, in MiB. */
  memoryMib: z.number().int(),
  /** In the order of their index. Their rows are there from the beginning. */
  children: z.array(z.object({ id: z.string(), name: z.string() })),
});
export type ForkInput = z.infer<typeof ForkInput>;

/** What a child is started with, as an operation of its own would be asked. */
const childWish = { force: false, power: "running", restartGeneration: 0 } as const satisfies Pick<
  InstanceInput,
  "force" | "power" | "restartGeneration"
>;

/** The moment that the children of a fork go on from. */
export function forkMoment({ store }: Services): FindMoment {
  return async ({ operation }) => {
    const { folder, memoryMib } = ForkInput.parse(operation.input);
    const { id, name } = operation.target;
    return {
      instanceId: id,
      instance: async () => {
        const instance = await readInstance(store.queries, id);
        if (!instance) throw new BerthError("not_found", `Instance ${name} is gone.`);
        return instance;
      },
      folder,
      owner: { forkOf: id },
      tag: operation.id,
      memoryMib,
      // Nobody sees it but its children.
      record: async () => undefined,
    };
  };
}

/** How many children are worked on at once: enough to keep a small node busy. */
const atOnce = 8;

/**
 * Does something to each child of a fork, a few at a time, as if it were the only target of the operation. One that fails keeps those from being begun that have not; it rejects
 * with the first error once nothing is being done any more.
 */
export async function forEachChild<T>(
  context: StepContext,
  work: (context: StepContext) => Promise<T>,
): Promise<readonly T[]> {
  const { children } = ForkInput.parse(context.operation.input);
  const results: T[] = [];
  const errors: unknown[] = [];
  let done = 0;
  const waiting = [...children.entries()];
  const worker = async () => {
    for (let next = waiting.shift(); next && errors.length === 0; next = waiting.shift()) {
      const [index, child] = next;
      try {
        results[index] = await work(contextOf(context, child));
      } catch (error) {
        errors.push(error);
      }
      done += 1;
      context.progress((100 * done) / children.length, `${done} of ${children.length}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  if (errors.length > 0) throw errors[0];
  return results;
}

function contextOf(context: StepContext, { id, name }: ForkInput["children"][number]): StepContext {
  const target = { kind: "instance", id, name };
  const operation = { ...context.operation, target, input: childWish };
  return { ...context, operation, journal: new Map(), progress: () => undefined };
}
