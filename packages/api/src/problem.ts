import { z } from "zod";

/** An error answer (RFC 9457, application/problem+json) with Berth's own `code` and `hint`. */
export const Problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    code: z.string(),
    detail: z.string(),
    hint: z.string().describe("What to do next."),
    errors: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .optional()
      .describe("Which parts of the request are wrong, and why."),
    operationId: z.string().optional().describe("The operation that holds a busy object."),
    requestId: z.string().optional().describe("The answer's X-Request-Id, by which berthd's log tells more."),
  })
  .meta({ id: "Problem" });
export type Problem = z.infer<typeof Problem>;
