import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { BerthError } from "@berth/api";

/** How a session travels: in a cookie that scripts cannot read and other sites do not send. */
export interface SessionCookie {
  /** The secret in a request's cookies; undefined when there is none. */
  read(headers: IncomingHttpHeaders): string | undefined;
  /** The Set-Cookie header that keeps a secret until then (milliseconds since the epoch), or with an empty one drops it. */
  write(secret: string, endsAt: number): string;
}

/**
 * With TLS the cookie's name begins with `__Host-`, by which browsers hold it to this very host, to TLS and to the whole of it (RFC 6265bis, section 4.1.3.2), so that no
 * neighbouring host can set it.
 */
export function sessionCookie(secure: boolean): SessionCookie {
  const name = secure ? "__Host-berth" : "berth-session";
  const pattern = new RegExp(`(?:^|;) *${name}=(berths_[0-9A-Za-z]{38})(?= *(?:;|$))`);
  return {
    read: ({ cookie }) => (cookie === undefined ? undefined : pattern.exec(cookie)?.[1]),
    write: (secret, endsAt) =>
      [
        `${name}=${secret}`,
        "Path=/",
        "HttpOnly",
        "SameSite=Strict",
        ...(secure ? ["Secure"] : []),
        `Expires=${new Date(secret === "" ? 0 : endsAt).toUTCString()}`,
      ].join("; "),
  };
}

/** What a session's requests that change something show besides the cookie: who can only make a browser send its cookies does not know it. */
export function csrfTokenOf(sessionHash: string): string {
  return createHash("sha256").update(`csrf ${sessionHash}`).digest("base64url");
}

/** Why a session's request is refused: another page may have had the browser send it; undefined when it shows that it is the session's own. */
export function forgeryIn(method: string, headers: IncomingHttpHeaders, sessionHash: string): BerthError | undefined {
  if (method === "GET" || method === "HEAD") return undefined;
  const given = Buffer.from(String(headers["x-csrf-token"] ?? ""));
  const expected = Buffer.from(csrfTokenOf(sessionHash));
  if (given.length === expected.length && timingSafeEqual(given, expected)) return undefined;
  return new BerthError("forbidden", "The request has not the X-CSRF-Token of its session; whoami tells it.");
}
