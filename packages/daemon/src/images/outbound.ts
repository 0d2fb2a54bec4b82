import { lookup } from "node:dns/promises";
import http from "node:http";
import https from "node:https";
import { BlockList, isIP, isIPv6, type LookupFunction } from "node:net";
import { BerthError } from "@berth/api";

/** Who may be fetched from. */
export interface OutboundPolicy {
  /**
   * Hosts the administrator names (BERTH_ALLOW_HOSTS): `registry.lan`, `127.0.0.1:5000`, `10.1.0.0/16`. Their addresses are not judged.
   * A plain-http registry that is not on loopback is written with its scheme: `http://registry.lan:5000`.
   */
  readonly allowHosts: readonly string[];
  /** Name lookup, for tests; the system's otherwise. */
  readonly lookup?: (hostname: string) => Promise<readonly { address: string; family: number }[]>;
  /** Only for a test's negative control: judges no address. */
  readonly unguarded?: boolean;
}

export interface OutboundRequest {
  readonly method?: "GET" | "HEAD";
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export interface OutboundResponse {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: http.IncomingMessage;
  /** Where the answer came from, after redirects. */
  readonly url: URL;
}

/** A host and its addresses, judged once: whoever connects must use these. */
export interface PinnedHost {
  readonly addresses: readonly { readonly address: string; readonly family: number }[];
  /** Named by the administrator. */
  readonly allowed: boolean;
}

/** The guarded way out of the node: every address is judged, and the address judged is the one connected to. */
export interface Outbound {
  /** Judges a host. Rejects with BerthError `address_refused`, or the lookup's own error. */
  pin(hostname: string, port: number): Promise<PinnedHost>;
  /** Whether plain http may be spoken to this host: one the administrator named, on loopback or with the scheme. */
  allowsPlainHttp(hostname: string, port: number): boolean;
  /** One request; redirects are followed (at most 5), each judged anew, and credentials stay with the host they were meant for. */
  request(url: URL, request?: OutboundRequest): Promise<OutboundResponse>;
}

const idleTimeoutMs = 30_000;
const maxRedirects = 5;

/** Loopback, link-local, private and other addresses that are not the public internet: IANA's special-purpose registries (RFC 6890). */
const notPublic = new BlockList();
for (const [network, prefix] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const) {
  notPublic.addSubnet(network, prefix, "ipv4");
}
// IPv6: only global unicast (2000::/3) is public, and of it not the ranges that carry or tunnel other addresses.
const globalUnicast = new BlockList();
globalUnicast.addSubnet("2000::", 3, "ipv6");
for (const [network, prefix] of [
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20],
] as const) {
  notPublic.addSubnet(network, prefix, "ipv6");
}

/** Whether an address belongs to the public internet. */
export function isPublicAddress(address: string): boolean {
  if (isIPv6(address)) return globalUnicast.check(address, "ipv6") && !notPublic.check(address, "ipv6");
  return isIP(address) === 4 && !notPublic.check(address, "ipv4");
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || (isIP(hostname) === 4 && hostname.startsWith("127."));
}

/** `[::1]` as it stands in a URL, without its brackets. */
function bareHost(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, "$1").toLowerCase();
}

interface AllowRule {
  readonly plainHttp: boolean;
  matches(hostname: string, port: number): boolean;
}

/** Reads one entry of BERTH_ALLOW_HOSTS. Throws BerthError `invalid_request` for what is none. */
export function parseAllowRule(text: string): AllowRule {
  const refuse = (): never => {
    throw new BerthError(
      "invalid_request",
      `BERTH_ALLOW_HOSTS: ${JSON.stringify(text)} is not a host, host:port or network.`,
    );
  };
  const [, scheme, rest = ""] = /^(https?:\/\/)?(.*)$/.exec(text.trim()) ?? [];
  const [network = "", prefix] = rest.split("/");
  if (prefix !== undefined) {
    const family = isIPv6(network) ? "ipv6" : "ipv4";
    const longest = family === "ipv6" ? 128 : 32;
    if (isIP(network) === 0 || !/^\d{1,3}$/.test(prefix) || Number(prefix) > longest) refuse();
    const list = new BlockList();
    list.addSubnet(network, Number(prefix), family);
    return {
      plainHttp: scheme === "http://",
      matches: (hostname) => isIP(hostname) !== 0 && list.check(hostname, isIPv6(hostname) ? "ipv6" : "ipv4"),
    };
  }
  const [, host = "", port] = isIPv6(rest)
    ? [rest, rest]
    : (/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/.exec(rest) ?? refuse());
  const name = bareHost(host);
  return {
    plainHttp: scheme === "http://",
    matches: (hostname, toPort) => hostname === name && (port === undefined || Number(port) === toPort),
  };
}

/** Makes the guarded way out. Throws BerthError `invalid_request` for an allow-list that cannot be read. */
export function createOutbound(policy: OutboundPolicy): Outbound {
  const rules = policy.allowHosts.filter((text) => text.trim() !== "").map(parseAllowRule);
  const findAddresses = policy.lookup ?? ((hostname: string) => lookup(hostname, { all: true, verbatim: true }));
  const allowedBy = (hostname: string, port: number) => rules.filter((rule) => rule.matches(bareHost(hostname), port));

  async function pin(hostname: string, port: number): Promise<PinnedHost> {
    const host = bareHost(hostname);
    const family = isIP(host);
    const addresses = family === 0 ? await findAddresses(host) : [{ address: host, family }];
    const allowed =
      policy.unguarded === true ||
      allowedBy(host, port).length > 0 ||
      (addresses.length > 0 && addresses.every(({ address }) => allowedBy(address, port).length > 0));
    const refused = allowed ? undefined : addresses.find(({ address }) => !isPublicAddress(address));
    if (refused) {
      const where = refused.address === host ? host : `${host} is at ${refused.address}, which`;
      throw new BerthError("address_refused", `${where} is not a public address and is not listed as allowed.`);
    }
    return { addresses, allowed };
  }

  function allowsPlainHttp(hostname: string, port: number): boolean {
    if (policy.unguarded) return true;
    return allowedBy(hostname, port).some((rule) => rule.plainHttp || isLoopback(bareHost(hostname)));
  }

  async function requestOnce(url: URL, request: OutboundRequest): Promise<http.IncomingMessage> {
    const port = Number(url.port || (url.protocol === "https:" ? 443 : 80));
    if (url.protocol !== "https:" && !(url.protocol === "http:" && allowsPlainHttp(url.hostname, port))) {
      throw new BerthError("address_refused", `${url.origin} is not https, and plain http is not allowed for it.`);
    }
    const { addresses } = await pin(url.hostname, port);
    const pinned: LookupFunction = (_hostname, options, callback) => {
      if (options.all) callback(null, [...addresses]);
      else callback(null, addresses[0]?.address ?? "", addresses[0]?.family ?? 4);
    };
    return await new Promise((resolve, reject) => {
      const outgoing = (url.protocol === "https:" ? https : http).request(url, {
        method: request.method ?? "GET",
        headers: { "user-agent": "berth", ...request.headers },
        lookup: pinned,
        // A connection of its own: a pooled one could have been made to another address.
        agent: false,
        timeout: idleTimeoutMs,
        ...(request.signal ? { signal: request.signal } : {}),
      });
      outgoing.once("timeout", () =>
        outgoing.destroy(new Error(`${url.host} was silent for ${idleTimeoutMs / 1000} s`)),
      );
      outgoing.on("error", reject);
      outgoing.once("response", resolve);
      outgoing.end();
    });
  }

  async function request(url: URL, request: OutboundRequest = {}): Promise<OutboundResponse> {
    let at = url;
    let headers = request.headers ?? {};
    for (let redirects = 0; redirects <= maxRedirects; redirects += 1) {
      const body = await requestOnce(at, { ...request, headers });
      const status = body.statusCode ?? 0;
      const location = body.headers.location;
      if (![301, 302, 303, 307, 308].includes(status) || location === undefined) {
        return { status, headers: body.headers, body, url: at };
      }
      body.destroy();
      const next = new URL(location, at);
      if (next.origin !== at.origin) {
        headers = Object.fromEntries(
          Object.entries(headers).filter(([name]) => name.toLowerCase() !== "authorization"),
        );
      }
      at = next;
    }
    throw new BerthError("registry_error", `${url.host} redirects more than ${maxRedirects} times.`);
  }

  return { pin, allowsPlainHttp, request };
}
