import type { PublishedPort } from "@berth/api";
import { UsageError } from "./errors.ts";

/** A port to publish, as the API takes it. */
export interface PortToPublish {
  hostAddress?: string;
  hostPort?: number;
  guestPort: number;
  protocol?: "tcp" | "udp";
}

/**
 * Reads docker's -p: `80`, `8080:80`, `127.0.0.1:8080:80`, `127.0.0.1::80`, `[::1]:8080:80`, each with `/tcp` or `/udp`. Without an address berthd
 * publishes on loopback; without a host port it takes a free one.
 */
export function parsePort(input: string): PortToPublish {
  const match = /^(?:(?:(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):(\d*):)|(\d+):)?(\d+)(?:\/(tcp|udp))?$/.exec(input);
  if (!match)
    throw new SyntaxError("must look like 80, 8080:80, 127.0.0.1:8080:80 or [::1]:8080:80, with /udp for UDP");
  const [, ipv6, ipv4, behindAddress, alone, guest, protocol] = match;
  const hostAddress = ipv6 ?? ipv4;
  const hostPort = behindAddress || alone;
  return {
    ...(hostAddress === undefined ? {} : { hostAddress }),
    ...(hostPort === undefined || hostPort === "" ? {} : { hostPort: parseNumber(hostPort, 0) }),
    guestPort: parseNumber(guest ?? "", 1),
    ...(protocol === undefined ? {} : { protocol: protocol as "tcp" | "udp" }),
  };
}

/**
 * The ports of an instance after some are published no more and others are besides. What is unpublished is named by its guest port, or by as much of it as is
 * given; throws a UsageError when nothing fits.
 */
export function portsAfter(
  had: readonly PublishedPort[],
  publish: readonly PortToPublish[],
  unpublish: readonly PortToPublish[],
): PortToPublish[] {
  let kept = [...had];
  for (const named of unpublish) {
    const rest = kept.filter((port) => !fits(port, named));
    if (rest.length === kept.length) {
      const { guestPort, protocol = "tcp" } = named;
      throw new UsageError(`${guestPort}/${protocol} is not published so; berth show lists what is.`);
    }
    kept = rest;
  }
  return [...kept, ...publish];
}

function fits(port: PublishedPort, { protocol = "tcp", ...named }: PortToPublish): boolean {
  if (port.protocol !== protocol || port.guestPort !== named.guestPort) return false;
  if (named.hostPort !== undefined && named.hostPort !== port.hostPort) return false;
  return named.hostAddress === undefined || named.hostAddress === port.hostAddress;
}

function parseNumber(text: string, least: number): number {
  const port = Number(text);
  if (port < least || port > 65535) throw new SyntaxError(`${text} is not a port: 1 to 65535`);
  return port;
}

/** A published port as docker shows it: `127.0.0.1:8080->80/tcp`. */
export function formatPort(port: {
  hostAddress: string;
  hostPort: number;
  guestPort: number;
  protocol: string;
}): string {
  const address = port.hostAddress.includes(":") ? `[${port.hostAddress}]` : port.hostAddress;
  return `${address}:${port.hostPort}->${port.guestPort}/${port.protocol}`;
}
