import { BerthError, Image, Instance, InstanceSpec, Name, StartConfig, Timestamp } from "@berth/api";
import { z } from "zod";

/** The names of an archive's entries, in their order: the manifest, one file for each disk, the checksums of all. */
export const entryNames = {
  manifest: "manifest.json",
  disk: (name: string) => `disks/${name}.qcow2`,
  checksums: "SHA256SUMS",
} as const;

const format = "berth-instance";
const version = 1;
/** A spec comes from a request of 1 MiB, a start configuration from an image configuration of 8 MiB at most. */
export const maxManifestBytes = 16 * 1024 * 1024;

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** A disk in an archive: a qcow2 file that stands on its own. */
const ArchivedDisk = z.strictObject({
  name: Name,
  sizeBytes: z.number().int().min(1).describe("How large the guest sees it."),
  fileBytes: z.number().int().min(1).describe("How long its file in the archive is."),
  sha256: Sha256.describe("Of that file."),
});

/**
 * What an archive holds, as its first entry says. The disks come first, so that an archive's beginning names all that follows. Unknown keys are refused: what a newer
 * Berth wrote there would be lost without a word.
 */
export const Manifest = z.strictObject({
  format: z.literal(format),
  version: z.literal(version),
  disks: z.array(ArchivedDisk).min(1).max(16),
  createdAt: Timestamp,
  image: z.strictObject({
    reference: Instance.shape.image,
    contentDigest: Image.shape.contentDigest,
    os: z.string(),
    architecture: z.string(),
    startConfig: StartConfig,
  }),
  environment: z.enum(["included", "left-out"]).describe("Whether the spec has the instance's own variables."),
  instance: z.strictObject({
    name: Name,
    labels: Instance.shape.labels,
    spec: InstanceSpec.strict(),
  }),
});
export type Manifest = z.infer<typeof Manifest>;

/** A manifest before its disks were written. */
export type ManifestDraft = Omit<Manifest, "format" | "version" | "disks">;

/** A whole manifest. */
export function completeManifest(draft: ManifestDraft, disks: Manifest["disks"]): Manifest {
  return { format, version, disks, ...draft };
}

/** Refuses an archive, with the reason in words that follow "The archive". */
export function refuseArchive(why: string): BerthError {
  return new BerthError("invalid_archive", `The archive ${why}.`);
}

/** Reads a manifest. Throws `invalid_archive` naming what is wrong with it. */
export function parseManifest(text: string): Manifest {
  const json = parseJson(text);
  const said = z.looseObject({ format: z.unknown(), version: z.unknown() }).safeParse(json).data;
  if (said?.format !== format) throw refuseArchive("was not made by berth export");
  if (said.version !== version) {
    throw refuseArchive(
      `has format version ${JSON.stringify(said.version)?.slice(0, 20)}; this berthd reads version ${version}`,
    );
  }
  const result = Manifest.safeParse(json);
  if (!result.success) {
    const [issue] = result.error.issues;
    const path = issue?.path.join(".") || "manifest";
    throw refuseArchive(`says something unknown or impossible of itself: ${path}: ${issue?.message}`.slice(0, 500));
  }
  const manifest = result.data;
  const names = manifest.disks.map(({ name }) => name);
  if (new Set(names).size < names.length) throw refuseArchive("names a disk twice");
  if (names.join() !== manifest.instance.spec.disks.map(({ name }) => name).join()) {
    throw refuseArchive("has other disks than its instance");
  }
  return manifest;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refuseArchive("has a manifest that cannot be read");
  }
}
