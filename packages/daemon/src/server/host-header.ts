import { isIP } from "node:net";
import { BerthError } from "@berth/api";

/**
 * Refuses a Host header that is neither an address, nor localhost, nor one of the names given. A web page whose own name is made to point here (DNS
 * rebinding) sends that name; an address cannot be rebound.
 */
export function checkHost(header: string | undefined, names: readonly string[]): void {
  const host = hostOf(header ?? "");
  if (host === undefined) throw new BerthError("host_refused", "The request has no readable Host header.");
  if (isIP(host) !== 0 || host === "localhost" || names.includes(host)) return;
  throw new BerthError("host_refused", `${host} is not a name of this host.`);
}

/** The host part of a Host header, in lower case and without brackets; undefined when it has none. */
function hostOf(header: string): string | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9._-]{1,255}))(?::\d{1,5})?$/.exec(header);
  return (match?.[1] ?? match?.[2])?.toLowerCase();
}

/** Refuses a browser's WebSocket that a page of another origin opens: browsers send those without asking (no CORS for WebSockets), and always with Origin. */
export function checkOrigin(origin: string | undefined, host: string | undefined): void {
  if (origin === undefined || origin === `http://${host}` || origin === `https://${host}`) return;
  throw new BerthError("forbidden", `A page of ${origin.slice(0, 200)} may not connect.`);
}
