import { createHash } from "node:crypto";
import type { InstanceSpec, StartConfig } from "@berth/api";
import { volumePaths } from "../core/volumes.ts";

/** A program in the guest. `env` is `NAME=value`, `user` as USER in a Dockerfile; an empty user is root, an empty workingDir is `/`. */
export interface GuestProcess {
  readonly argv: readonly string[];
  readonly env: readonly string[];
  readonly user: string;
  readonly workingDir: string;
  /** Whether the console is its terminal. */
  readonly tty: boolean;
}

export interface GuestInterface {
  readonly mac: string;
  /** IPv4 address with prefix length: `10.0.2.15/24`. */
  readonly address: string;
  readonly gateway: string;
  readonly dns: readonly string[];
}

/** A volume, laid over a folder of the image. */
export interface GuestVolume {
  readonly path: string;
  /** The name of its folder on the disk of the volumes: the same for the same path, whichever image names it. */
  readonly folder: string;
}

/** What a guest is told when it has booted, and again when it goes on in another machine, in one line (docs/guest-protocol.md). */
export interface GuestConfig {
  /** The instance's id. */
  readonly id: string;
  readonly hostname: string;
  /** 32 lower-case hex digits: what /etc/machine-id says. */
  readonly machineId: string;
  readonly process: GuestProcess;
  /** TCP ports that must be listened on before the guest is ready. */
  readonly watchPorts: readonly number[];
  /** What is laid over folders of the image, from the second disk; parents before what is in them. Absent for none. */
  readonly volumes?: readonly GuestVolume[];
  /** What each disk has at least, in bytes: the guest's kernel may learn of it a moment later. Absent when that is not known. */
  readonly diskBytes?: readonly number[];
  readonly interfaces: readonly GuestInterface[];
  /** Keys of the channel: the guest's private host key in dropbear's format as base64, and the line that lets the host in. */
  readonly channel: { readonly hostKey: string; readonly clientPublicKey: string };
  /** Milliseconds since the Unix epoch. */
  readonly nowMs: number;
  /** 32 to 1024 random bytes as base64, never the same twice. */
  readonly seed: string;
  /** Whose memory the guest goes on from, when it goes on from any but a template's; null or absent for none. */
  readonly origin?: GuestOrigin | null;
}

/** Where a guest's memory comes from: that of a running instance, of a snapshot, or its own when it was suspended. */
export interface GuestOrigin {
  readonly kind: "fork" | "restore" | "resume";
  /** The instance that was forked, or that the snapshot is of; null when that is unknown or itself. */
  readonly parent: { readonly id: string; readonly name: string } | null;
  /** Its place among the children of one fork, from 0. */
  readonly index: number;
}

const maxNameBytes = 255;

/** The volumes of an image as its guests are told of them. */
export function guestVolumes(image: Pick<StartConfig, "volumes">): GuestVolume[] {
  return volumePaths(image).map((path) => {
    const name = encodeURIComponent(path);
    const isName = name.length <= maxNameBytes;
    return { path, folder: isName ? name : `sha256-${createHash("sha256").update(path).digest("hex")}` };
  });
}

/** The machine-id of an instance (machine-id(5)): the same at every boot, and no other instance's. It tells nobody the instance's id. */
export function machineIdOf(instanceId: string): string {
  return createHash("sha256").update(`machine-id\0${instanceId}`).digest("hex").slice(0, 32);
}

/** docker's PATH, for images that set none. */
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * The process of an instance: its image's start configuration with the instance's wishes laid over it, by docker's rules. A new entrypoint
 * drops the image's CMD; a new command keeps its ENTRYPOINT. An empty entrypoint means none, as `--entrypoint ""`. PATH, HOSTNAME and, with a terminal, TERM are set
 * unless the image or the instance do.
 */
export function processFrom(
  image: StartConfig,
  spec: Pick<InstanceSpec, "entrypoint" | "command" | "env" | "tty">,
  hostname: string,
): GuestProcess {
  const entrypoint = spec.entrypoint ?? image.entrypoint;
  const command = spec.command ?? (spec.entrypoint ? [] : image.cmd);
  const given = [defaultPath, `HOSTNAME=${hostname}`, ...(spec.tty ? ["TERM=xterm"] : [])];
  return {
    argv: [...entrypoint.filter((word, at) => at > 0 || word !== ""), ...command],
    env: mergeEnv([...given, ...image.env], spec.env),
    user: image.user,
    workingDir: image.workingDir || "/",
    tty: spec.tty,
  };
}

/** `NAME=value` entries with others laid over them: a name keeps its place and takes the last value. */
function mergeEnv(entries: readonly string[], over: Readonly<Record<string, string>>): string[] {
  const merged = new Map<string, string>();
  for (const entry of entries) {
    const end = entry.indexOf("=");
    if (end > 0) merged.set(entry.slice(0, end), entry.slice(end + 1));
  }
  for (const [name, value] of Object.entries(over)) merged.set(name, value);
  return [...merged].map(([name, value]) => `${name}=${value}`);
}
