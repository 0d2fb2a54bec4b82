import { BerthError } from "@berth/api";
import type { TemplateShape } from "../core/template-shape.ts";
import { volumesDisk } from "../core/volumes.ts";
import type { Handle } from "../drivers/driver.ts";
import type { GuestState } from "../guest/facts.ts";
import type { Journal, StepContext } from "../operations/workflow.ts";
import { readPoolMember } from "../store/pools.ts";
import { readTemplate } from "../store/templates.ts";
import { diskPath } from "./instance-paths.ts";
import type { Services } from "./services.ts";

/** A machine that is nobody's yet: one whose memory becomes a template, or one that waits in a pool. */
export interface BlankMachine extends TemplateShape {
  readonly id: string;
  readonly project: string;
  readonly location: string;
}

/** The machine with this id, when it is nobody's; undefined when it is an instance's, or there is none. */
export async function findBlankMachine({ store }: Services, id: string): Promise<BlankMachine | undefined> {
  return (await readTemplate(store.queries, id)) ?? (await readPoolMember(store.queries, id));
}

/** The machine that an operation on a template or on a pool's member works on. */
export async function targetMachine(services: Services, { operation }: StepContext): Promise<BlankMachine> {
  const { kind, id } = operation.target;
  const machine = await findBlankMachine(services, id);
  if (!machine) throw new BerthError("not_found", `The ${kind} ${id} is gone.`);
  return machine;
}

/** The names of a blank machine's disks, as its instances call them: as many as its shape has, the root disk first. */
export function blankDisks({ disks }: Pick<BlankMachine, "disks">): string[] {
  return ["root", volumesDisk].slice(0, disks);
}

/** What the driver has of it, by its owner's mark; undefined when there is none. */
export function findMachine(services: Services, { id, location }: BlankMachine): Promise<Handle | undefined> {
  return services.driver(location).find(services.ownerOf(id));
}

/** The same, for steps that come after it was made. */
export async function requireMachine(services: Services, machine: BlankMachine): Promise<Handle> {
  const handle = await findMachine(services, machine);
  if (!handle) throw new BerthError("internal", `The driver has nothing of ${machine.id}.`);
  return handle;
}

/** What is seen of a blank machine. */
export interface SeenMachine {
  readonly artifact: boolean;
  readonly disks: boolean;
  readonly folder: boolean;
  readonly made: boolean;
  readonly power: "running" | "paused" | "stopped";
  readonly powerReason: string;
  /** Whether its guest waits to be told who it is, or where the image's process is started, whether this is ready. */
  readonly prepared: boolean;
  /** How its process ended, in words; null while it runs, or is not started. */
  readonly ended: string | null;
  /** Whether its guest has said anything to this berthd. */
  readonly heard: boolean;
}

function howItEnded({ exit, failure }: GuestState): string | null {
  if (failure) return failure.reason;
  return exit && `its process ended with exit code ${exit.code}`;
}

/** Looks at all there is of a blank machine. Changes nothing. */
export async function observeMachine(services: Services, machine: BlankMachine): Promise<SeenMachine> {
  const { folders, guests, host, images } = services;
  const { id, location, contentDigest } = machine;
  const folder = await folders.find(id);
  const hasDisk = async (name: string) => folder !== undefined && host.files.exists(diskPath(folder.vmPath, name));
  const disks = await Promise.all(blankDisks(machine).map(hasDisk));
  const handle = await findMachine(services, machine);
  const seen = handle && (await services.driver(location).inspect(handle));
  const guest = guests.latest(id);
  return {
    artifact: (await images.findArtifact(contentDigest)) !== undefined,
    disks: disks.every(Boolean),
    folder: await host.files.exists(folders.path(id)),
    made: seen?.exists ?? false,
    power: seen?.power ?? "stopped",
    powerReason: seen?.reason ?? "",
    prepared: machine.app ? guest?.ready === true : guest?.phase === "prepared",
    ended: guest ? howItEnded(guest) : null,
    heard: guest !== undefined && guest.bootId !== "",
  };
}

/** The steps that an operation on a blank machine has run to their end. */
export function finishedSteps<Name extends string>(heard: boolean, journal: Journal): ReadonlySet<Name> {
  const finished = new Set<Name>();
  for (const [name, entry] of journal) if (entry.status === "succeeded") finished.add(name as Name);
  // What an earlier daemon heard of the guest died with it: it is listened to anew, unless its time has passed.
  if (!heard && journal.get("await-prepared")?.result !== "in vain") finished.delete("await-prepared" as Name);
  return finished;
}
