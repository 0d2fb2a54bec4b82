import { BerthError } from "@berth/api";
import type { PortForward } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";
import { requirePublishable } from "./netdev.ts";

const tries = 50;

/**
 * Gives each published port the host port it will keep: the one asked for, or a free one for 0. `held` are the ports of all other instances,
 * stopped ones included, so that each can be started again. Rejects with `port_taken` naming the port another holds; whether a program outside
 * Berth has it is found when the instance starts.
 */
export async function choosePorts(
  host: Host,
  wanted: readonly PortForward[],
  held: readonly PortForward[],
): Promise<readonly PortForward[]> {
  requirePublishable(wanted);
  const chosen: PortForward[] = [];
  // Those asked for by number first: a free one must not be one of them.
  const fixed = wanted.filter(({ hostPort }) => hostPort !== 0);
  for (const forward of fixed) {
    const others = [...held, ...fixed.filter((other) => other !== forward)];
    if (others.some((other) => clash(other, forward))) {
      const detail = `Port ${forward.hostPort} on ${forward.hostAddress} is published by another instance or twice.`;
      throw new BerthError("port_taken", detail);
    }
  }
  for (const forward of wanted) {
    chosen.push(forward.hostPort === 0 ? await freePort(host, forward, [...held, ...fixed, ...chosen]) : forward);
  }
  return chosen;
}

/** Ports that may be somebody else's wish, made publishable here. */
export interface AdaptedPorts {
  readonly ports: readonly PortForward[];
  /** What was changed about them, in words. */
  readonly words: readonly string[];
}

/** Ports that were published on another node: one that is held or taken here becomes any free one, and an address that is not this node's becomes loopback. */
export async function adaptPorts(
  host: Host,
  wanted: readonly PortForward[],
  held: readonly PortForward[],
): Promise<AdaptedPorts> {
  const ports: PortForward[] = [];
  const words: string[] = [];
  for (const forward of wanted) {
    const here = (await isPublishable(host, forward)) ? forward : { ...forward, hostAddress: "127.0.0.1" };
    if (here !== forward)
      words.push(`${forward.hostAddress} is not an address to publish on here: 127.0.0.1 is used instead`);
    const isTaken =
      here.hostPort !== 0 &&
      ([...held, ...ports].some((other) => clash(other, here)) ||
        (await host.tryPort(here.protocol, here.hostAddress, here.hostPort)) === undefined);
    if (isTaken)
      words.push(`port ${here.hostPort} of ${here.hostAddress} is taken here: a free one is published instead`);
    ports.push(isTaken ? { ...here, hostPort: 0 } : here);
  }
  return { ports, words };
}

async function isPublishable(host: Host, forward: PortForward): Promise<boolean> {
  try {
    requirePublishable([forward]);
    await bindable(host, forward);
    return true;
  } catch (error) {
    if (error instanceof BerthError) return false;
    throw error;
  }
}

async function freePort(host: Host, forward: PortForward, held: readonly PortForward[]): Promise<PortForward> {
  for (let attempt = 0; attempt < tries; attempt += 1) {
    const hostPort = await bindable(host, forward);
    if (hostPort === undefined) continue;
    const candidate = { ...forward, hostPort };
    if (!held.some((other) => clash(other, candidate))) return candidate;
  }
  throw new BerthError("port_taken", `No free port was found on ${forward.hostAddress}.`);
}

async function bindable(host: Host, { protocol, hostAddress }: PortForward): Promise<number | undefined> {
  try {
    return await host.tryPort(protocol, hostAddress, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRNOTAVAIL") throw error;
    throw new BerthError("invalid_request", `${hostAddress} is not an address of this node.`, { cause: error });
  }
}

/** Whether two publications cannot both be bound: the same protocol and port, on the same address or one of them on all; pure. */
export function clash(one: PortForward, other: PortForward): boolean {
  if (one.protocol !== other.protocol || one.hostPort !== other.hostPort || one.hostPort === 0) return false;
  return one.hostAddress === other.hostAddress || one.hostAddress === "0.0.0.0" || other.hostAddress === "0.0.0.0";
}
