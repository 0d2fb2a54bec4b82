import type { PublishedPort } from "@berth/api";
import { isSame } from "./is-same.ts";

/** Whether reserved ports are what is wished for: the same, in the same order, with any host port where none was named. */
export function keepsPorts(wished: readonly PublishedPort[], reserved: readonly PublishedPort[]): boolean {
  return wished.length === reserved.length && wished.every((wish, at) => fits(wish, reserved[at]));
}

function fits(wish: PublishedPort, port: PublishedPort | undefined): boolean {
  if (!port || !isSamePlace(wish, port)) return false;
  return wish.hostPort === 0 ? port.hostPort !== 0 : wish.hostPort === port.hostPort;
}

/** Names the host port of each wish that named none and whose guest port already has one, in the order they were given. */
export function keptPorts(wished: readonly PublishedPort[], had: readonly PublishedPort[]): readonly PublishedPort[] {
  const named = wished.filter(({ hostPort }) => hostPort !== 0);
  const free = had.filter((port) => !named.some((wish) => fits(wish, port)));
  return wished.map((wish) => {
    if (wish.hostPort !== 0) return wish;
    const at = free.findIndex((port) => isSamePlace(wish, port));
    const [kept] = at < 0 ? [] : free.splice(at, 1);
    return kept ?? wish;
  });
}

/**
 * Whether a machine that runs may publish these instead: a hypervisor, which has no rights, can have a host port below 1024 only from its start on, when somebody with rights gives
 * it one.
 */
export function mayPublishLive(present: readonly PublishedPort[], wanted: readonly PublishedPort[]): boolean {
  const isPrivileged = ({ hostPort }: PublishedPort) => hostPort > 0 && hostPort < 1024;
  return wanted.every((port) => !isPrivileged(port) || present.some((other) => isSame(other, port)));
}

function isSamePlace(one: PublishedPort, other: PublishedPort): boolean {
  return one.guestPort === other.guestPort && one.protocol === other.protocol && one.hostAddress === other.hostAddress;
}
