import { z } from "zod";
import { idSchema, Name, numberFromText, PageQuery, Timestamp, YesOrNo } from "./common.ts";
import { Problem } from "./problem.ts";

export const operationStatuses = ["pending", "running", "cancelling", "succeeded", "failed", "cancelled"] as const;
export const OperationStatus = z.enum(operationStatuses);
export type OperationStatus = z.infer<typeof OperationStatus>;

/** Whether nothing more will happen to an operation of this status. */
export function isFinal(status: OperationStatus): boolean {
  return status === "succeeded" || status === "failed" || status === "cancelled";
}

/** One step of an operation, as every client shows it. `percent` and `detail` are null when there is nothing to say. */
export const OperationStep = z
  .object({
    name: z.string(),
    status: z.enum(["running", "succeeded", "failed", "undone"]),
    startedAt: Timestamp,
    endedAt: Timestamp.nullable(),
    percent: z.number().min(0).max(100).nullable(),
    detail: z.string().nullable(),
  })
  .meta({ id: "OperationStep" });
export type OperationStep = z.infer<typeof OperationStep>;

/** The durable record of work asked for. */
export const Operation = z
  .object({
    id: idSchema("operation"),
    type: z.string().describe("Noun and verb: `instance.create`."),
    project: Name,
    status: OperationStatus,
    target: z
      .object({ kind: z.string(), id: z.string(), name: z.string() })
      .describe("The object it works on; `name` is for people."),
    steps: z.array(OperationStep),
    reason: z.string().describe("Why it waits, when it does; empty otherwise."),
    error: Problem.nullable(),
    attempt: z.number().int(),
    createdAt: Timestamp,
    startedAt: Timestamp.nullable(),
    endedAt: Timestamp.nullable(),
  })
  .meta({ id: "Operation" });
export type Operation = z.infer<typeof Operation>;

export const ListOperationsQuery = PageQuery.extend({
  target: z.string().max(64).optional(),
  status: OperationStatus.optional(),
  unfinished: YesOrNo.optional(),
});
export const OperationParams = z.object({ operation: idSchema("operation") });
/** Waits up to `timeout` seconds for the end; answers with the operation as it is then. */
export const WaitOperationQuery = z.object({ timeout: numberFromText(z.number().min(0).max(600)).default(60) });
/** The log of a build or pull: text lines; with `follow` until the operation ends. */
export const OperationLogQuery = z.object({ follow: YesOrNo.optional() });
