import type { ErrorCode } from "./errors.ts";
import { Problem } from "./problem.ts";

/** An answer other than success, with the problem the server told. */
export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title);
    this.name = "ApiError";
    this.problem = problem;
  }

  /** A code of the catalogue, or one that a newer server knows. */
  get code(): ErrorCode | (string & {}) {
    return this.problem.code;
  }

  get status(): number {
    return this.problem.status;
  }
}

/** Nobody answers at the address, or someone who is not berthd. */
export class UnreachableError extends Error {
  readonly url: string;

  constructor(url: string, why: string, options?: { cause?: unknown }) {
    super(`berthd does not answer at ${url}: ${why}`, options);
    this.name = "UnreachableError";
    this.url = url;
  }
}

/** Whether a failed connection was given up by the caller's own signal. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === "AbortError" || error.name === "TimeoutError");
}

/** The words of a failed connection: fetch hides them in the cause, or in several when it tried several addresses. */
export function reasonOf(error: unknown): string {
  const causes = [error, (error as { cause?: unknown }).cause].flatMap((one) =>
    one instanceof AggregateError ? [one, ...one.errors] : [one],
  );
  for (const cause of causes.reverse()) {
    const code = (cause as { code?: unknown } | undefined)?.code;
    if (code === "ECONNREFUSED") return "connection refused";
    if (code === "ENOTFOUND") return "the host name is unknown";
    if (code === "ECONNRESET" || code === "UND_ERR_SOCKET") return "the connection was cut";
    if (typeof code === "string") return code;
  }
  return error instanceof Error ? error.message : String(error);
}

/** Makes the error of an answer that is no success. */
export async function errorOf(response: Response, url: string): Promise<ApiError | UnreachableError> {
  const text = await response.text().catch(() => "");
  try {
    return new ApiError(Problem.parse(JSON.parse(text)));
  } catch {
    return new UnreachableError(url, `something else answered with status ${response.status}`);
  }
}
