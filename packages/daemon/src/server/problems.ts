import { BerthError, type ErrorCode, type Problem, toProblem } from "@berth/api";

/** What Fastify and Node call what went wrong, and what we call it. Any other fault of the client is an invalid request. */
const codes: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "body_too_large",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "unsupported_media_type",
};

/** Makes a BerthError of whatever was thrown while a request was answered; what is not the client's fault stays as it is and becomes `internal`. */
export function toBerthError(error: unknown): unknown {
  if (error instanceof BerthError || !(error instanceof Error)) return error;
  const { code = "", statusCode = 500 } = error as Error & { code?: string; statusCode?: number };
  const known = codes[code];
  if (known) return new BerthError(known, error.message, { cause: error });
  return statusCode >= 400 && statusCode < 500
    ? new BerthError("invalid_request", error.message, { cause: error })
    : error;
}

/** The problem of an error, with the id under which the log has more. */
export function problemOf(error: unknown, requestId: string): Problem {
  return { ...toProblem(toBerthError(error)), requestId };
}
