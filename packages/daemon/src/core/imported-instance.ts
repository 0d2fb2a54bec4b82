import { BerthError, type ImportInstance, type InstanceSpec } from "@berth/api";

/** What an archive says of its instance. */
export interface ArchivedInstance {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly spec: InstanceSpec;
}

/** An instance to be made of an archive. */
export interface ImportedInstance {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly spec: InstanceSpec;
}

/** What is asked, of an import, of what it makes. */
export type ImportWish = Omit<ImportInstance, "location">;

/** What an import makes of an archive's instance: what was asked for, else what the archive has. Nothing of its former life is kept. */
export function importedInstance(archived: ArchivedInstance, wish: ImportWish): ImportedInstance {
  const { spec } = archived;
  return {
    name: wish.name ?? archived.name,
    labels: { ...archived.labels, ...wish.labels },
    spec: {
      ...spec,
      cpus: wish.cpus ?? spec.cpus,
      memoryMib: wish.memoryMib ?? spec.memoryMib,
      ports: wish.ports ?? spec.ports,
      // Whether it can be woken is the node's and the location's matter, and was another's.
      autosuspend: null,
      power: wish.start ? "running" : "stopped",
      restartGeneration: 0,
    },
  };
}

/** Refuses an image that this node's machines could not run. */
export function checkPlatform(
  image: { readonly os: string; readonly architecture: string },
  architecture: string,
): void {
  if (image.os === "linux" && image.architecture === architecture) return;
  throw new BerthError(
    "unsupported_image",
    `It is made for ${image.os}/${image.architecture}, this node is linux/${architecture}.`,
  );
}
