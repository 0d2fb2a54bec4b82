import { ApiError, type ErrorCode, errorCatalogue, type Operation, type Problem } from "@berth/api";
import { expect } from "vitest";

/** Holds a problem to its code, the catalogue's words of what to do next, and what must stand in its detail. */
export function expectProblem(problem: Problem | null | undefined, code: ErrorCode, detail: RegExp | string): void {
  const { status, title, hint } = errorCatalogue[code];
  const words = detail instanceof RegExp ? expect.stringMatching(detail) : expect.stringContaining(detail);
  expect(problem).toMatchObject({ code, status, title, hint, detail: words });
}

/** Holds a request to being refused, before anything is begun. */
export async function expectRefused(asked: Promise<unknown>, code: ErrorCode, detail: RegExp | string): Promise<void> {
  const error: unknown = await asked.then(
    () => undefined,
    (refusal: unknown) => refusal,
  );
  if (!(error instanceof ApiError)) throw new Error(`not refused: ${error}`);
  expectProblem(error.problem, code, detail);
}

/** Holds a change to having been tried and failed. */
export async function expectFailed(
  asked: Promise<{ readonly operation: Operation }>,
  code: ErrorCode,
  detail: RegExp | string,
): Promise<Operation> {
  const { operation } = await asked;
  expect(operation.status).toBe("failed");
  expectProblem(operation.error, code, detail);
  return operation;
}
