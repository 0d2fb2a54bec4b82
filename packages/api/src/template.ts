import { z } from "zod";
import { IdOrName, idSchema, Name, Timestamp } from "./common.ts";
import { DiskSpec, InstanceSpec } from "./instance.ts";

/** What the image's process was started with in a template that was captured when it was ready: instances cloned from it have the same. */
export const TemplateApp = InstanceSpec.pick({ env: true, entrypoint: true, command: true, tty: true })
  .extend({
    ports: z.array(z.number().int().min(1).max(65535)).describe("The TCP ports that it listened on by then."),
    diskMib: DiskSpec.shape.sizeMib,
  })
  .meta({ id: "TemplateApp" });
export type TemplateApp = z.infer<typeof TemplateApp>;

/** The memory of a booted machine, from which instances of the same shape are cloned. Never shared between projects, always made again from its image. */
export const Template = z
  .object({
    id: idSchema("template"),
    project: Name,
    state: z.enum(["building", "ready", "failed"]),
    reason: z.string().describe("Why it failed, in words; empty otherwise."),
    image: z.string().describe("The reference of the image when the template was first asked for."),
    contentDigest: z.string().describe("The image's content: another content is another template."),
    app: TemplateApp.nullable().describe(
      "What the image's process was started with when it was captured with it; null for one captured before that is started.",
    ),
    cpus: InstanceSpec.shape.cpus,
    memoryMib: InstanceSpec.shape.memoryMib,
    disks: z.number().int(),
    interfaces: z.number().int(),
    build: z
      .string()
      .describe("The hypervisor, machine type and guest kit it was made with: with others it is made again."),
    location: z.string(),
    nodeId: idSchema("node"),
    sizeBytes: z.number().int().nullable().describe("What it takes on the node's disk; null until it is ready."),
    uses: z.number().int().describe("How many machines were cloned from it."),
    lastUsedAt: Timestamp.nullable(),
    operationId: idSchema("operation").nullable().describe("The operation that made it: its steps and progress."),
    createdAt: Timestamp,
  })
  .meta({ id: "Template" });
export type Template = z.infer<typeof Template>;

export const TemplateParams = z.object({ template: IdOrName });

/** What is pruned beside the templates that nothing can be cloned from any more: those that failed, whose image is gone, or that another hypervisor or kit has made. */
export const PruneTemplates = z
  .strictObject({
    unusedForMs: z
      .number()
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe("Also those that nothing was cloned from for so long, in milliseconds; 0 is all of them."),
    keepMib: z
      .number()
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe("Also those unused for longest, until what is left takes no more than this."),
    dryRun: z.boolean().default(false).describe("Only tell which it would be."),
  })
  .meta({ id: "PruneTemplates", examples: [{ unusedForMs: 604_800_000 }] });
export type PruneTemplates = z.infer<typeof PruneTemplates>;

/** The templates that are being deleted, each with the reason. */
export const PrunedTemplates = z
  .object({
    items: z.array(z.object({ template: Template, reason: z.string(), operationId: idSchema("operation").nullable() })),
  })
  .meta({ id: "PrunedTemplates" });
export type PrunedTemplates = z.infer<typeof PrunedTemplates>;
