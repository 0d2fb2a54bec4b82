import { z } from "zod";
import { Archive } from "./archive.ts";
import { Image } from "./image.ts";
import { ChangeEffect, Instance } from "./instance.ts";
import { Operation } from "./operation.ts";
import { Pool } from "./pool.ts";
import { Snapshot } from "./snapshot.ts";
import { Template } from "./template.ts";

/** An instance, image or archive just changed, with the operation that carries it out. */
export const InstanceChange = z.object({ instance: Instance, operation: Operation }).meta({ id: "InstanceChange" });
export type InstanceChange = z.infer<typeof InstanceChange>;
/** A changed instance: what each changed field takes until it holds. */
export const InstanceUpdate = InstanceChange.extend({ effects: z.array(ChangeEffect) }).meta({ id: "InstanceUpdate" });
export type InstanceUpdate = z.infer<typeof InstanceUpdate>;
/** A running instance being forked, with its children. */
export const ForkChange = InstanceChange.extend({ children: z.array(Instance) }).meta({ id: "ForkChange" });
export type ForkChange = z.infer<typeof ForkChange>;
export const ImageChange = z.object({ image: Image, operation: Operation }).meta({ id: "ImageChange" });
export type ImageChange = z.infer<typeof ImageChange>;
export const TemplateChange = z.object({ template: Template, operation: Operation }).meta({ id: "TemplateChange" });
export type TemplateChange = z.infer<typeof TemplateChange>;
export const ArchiveChange = z.object({ archive: Archive, operation: Operation }).meta({ id: "ArchiveChange" });
export type ArchiveChange = z.infer<typeof ArchiveChange>;
export const PoolChange = z.object({ pool: Pool, operation: Operation }).meta({ id: "PoolChange" });
export type PoolChange = z.infer<typeof PoolChange>;

export const SnapshotChange = z.object({ snapshot: Snapshot, operation: Operation }).meta({ id: "SnapshotChange" });
export type SnapshotChange = z.infer<typeof SnapshotChange>;
/** An instance being put back to a snapshot; `kept` is what its disks were before, unless that was discarded. */
export const RestoreChange = InstanceChange.extend({ kept: Snapshot.nullable() }).meta({ id: "RestoreChange" });
export type RestoreChange = z.infer<typeof RestoreChange>;
/** An instance whose root disk is made anew; `kept` is the snapshot of what its disks were. */
export const RebuildChange = InstanceChange.extend({ kept: Snapshot.nullable() }).meta({ id: "RebuildChange" });
export type RebuildChange = z.infer<typeof RebuildChange>;
