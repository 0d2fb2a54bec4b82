import { z } from "zod";

/** An error answer (RFC 9457, application/problem+json) with Berth's own `code` and `hint`. */
export const Problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    code: z.string(),
    detail: z.string(),
    /** What to do next. */
    hint: z.string(),
    /** Which parts of the request are wrong, and why. */
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
    /** The operation that holds a busy object. */
    operationId: z.string().optional(),
    /** The answer's X-Request-Id, by which berthd's log tells more. */
    requestId: z.string().optional(),
  })
  .meta({ id: "Problem" });
export type Problem = z.infer<typeof Problem>;
