import { z } from "zod";
import { IdOrName, idSchema, Name, PageQuery, Timestamp } from "./common.ts";

/** How an image's process is started: the part of an OCI image's config that a VM can honour (OCI image-spec, config.md). */
export const StartConfig = z
  .object({
    entrypoint: z.array(z.string()),
    cmd: z.array(z.string()),
    env: z.array(z.string()).describe("`NAME=value`, in the image's order."),
    user: z.string().describe("USER as written: name or number, optionally `:group`; empty is root."),
    workingDir: z.string(),
    exposedPorts: z.array(z.string()).describe("As `80/tcp`."),
    stopSignal: z.string().describe("Name or number; empty is SIGTERM."),
    volumes: z.array(z.string()),
    labels: z.record(z.string(), z.string()),
  })
  .meta({ id: "StartConfig" });
export type StartConfig = z.infer<typeof StartConfig>;

export const imageKinds = ["rootfs", "disk", "iso", "reference"] as const;

/**
 * Where an image came from. Secrets in URLs are never kept. One that came with an imported instance has no content of its own: it says how that instance's process is started, and
 * goes with it.
 */
export const ImageSource = z.discriminatedUnion("type", [
  z.object({ type: z.literal("registry"), reference: z.string() }),
  z.object({ type: z.literal("directory"), path: z.string(), dockerfile: z.string() }),
  z.object({
    type: z.literal("git"),
    url: z.string(),
    ref: z.string(),
    commit: z.string().nullable(),
    dockerfile: z.string(),
    subdirectory: z.string(),
  }),
  z.object({
    type: z.literal("snapshot"),
    snapshot: z.object({ id: idSchema("snapshot"), name: Name }).describe("It may be gone."),
    instance: z.object({ id: idSchema("instance"), name: Name }).describe("The one it was of, which may be gone."),
  }),
  z.object({
    type: z.literal("import"),
    reference: z.string().describe("The reference that the image had where the instance was made."),
    contentDigest: z.string().nullable(),
  }),
]);
export type ImageSource = z.infer<typeof ImageSource>;

/** Verified content from which instances are made. */
export const Image = z
  .object({
    id: idSchema("image"),
    project: Name,
    references: z
      .array(z.string())
      .describe(
        "The references that name it now, fully written: `docker.io/library/nginx:1.27`, `localhost/web:latest`.",
      ),
    source: ImageSource,
    state: z.enum(["building", "ready", "failed"]),
    reason: z.string().describe("Why it failed, in words; empty otherwise."),
    contentDigest: z
      .string()
      .nullable()
      .describe("Digest of the content (the platform's manifest), `sha256:…`; null until known."),
    kind: z.enum(imageKinds),
    os: z.string(),
    architecture: z.string().describe("As Go and OCI name it: `amd64`, `arm64`."),
    firmware: z.enum(["kernel", "bios", "uefi"]),
    sizeBytes: z.number().int().nullable().describe("Bytes of the files inside; null until known."),
    startConfig: StartConfig.nullable(),
    operationId: idSchema("operation").nullable().describe("The operation that made it: its steps, progress and log."),
    createdAt: Timestamp,
  })
  .meta({ id: "Image" });
export type Image = z.infer<typeof Image>;

/** A pull from a registry. */
export const PullImage = z
  .strictObject({
    reference: z.string().min(1).max(512),
    refresh: z.boolean().default(false).describe("Ask the registry even if the reference is here."),
  })
  .meta({ id: "PullImage", examples: [{ reference: "nginx:1.27" }] });
export type PullImage = z.infer<typeof PullImage>;

/** A build from a Dockerfile: in a folder on the node, or in a Git repository at a branch, tag or commit. */
export const BuildImage = z
  .strictObject({
    reference: z.string().min(1).max(512),
    source: z.discriminatedUnion("type", [
      z.strictObject({
        type: z.literal("directory"),
        path: z
          .string()
          .min(1)
          .max(4096)
          .regex(/^\/[^\0]*$/, "must be an absolute path on the node"),
      }),
      z.strictObject({
        type: z.literal("git"),
        url: z.string().min(1).max(2048),
        ref: z.string().max(256).default("HEAD"),
        subdirectory: z.string().max(4096).default(""),
      }),
    ]),
    dockerfile: z.string().min(1).max(4096).default("Dockerfile"),
    buildArgs: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string().max(32 * 1024)).default({}),
  })
  .meta({
    id: "BuildImage",
    examples: [
      { reference: "web:latest", source: { type: "git", url: "https://git.example.com/web.git", ref: "main" } },
    ],
  });
export type BuildImage = z.infer<typeof BuildImage>;
export type BuildImageInput = z.input<typeof BuildImage>;

export const ListImagesQuery = PageQuery.extend({ reference: z.string().max(512).optional() });
export const ImageParams = z.object({ image: IdOrName });
