import { BerthError, type Template } from "@berth/api";
import { type KeptTemplate, templatesToPrune, type UpkeepBounds } from "../core/template-upkeep.ts";
import { findImageByDigest } from "../store/images.ts";
import { listTemplates } from "../store/templates.ts";
import type { Services } from "./services.ts";
import { templateBuild } from "./template-place.ts";

/** The templates of a project, or of all, that are to go: of no use any more, or beyond the bounds. */
export async function findUselessTemplates(
  services: Services,
  options: { readonly project?: string; readonly nodeId: string },
  bounds: UpkeepBounds & { readonly failedForMs: number },
): Promise<readonly { readonly template: Template; readonly reason: string }[]> {
  const { queries } = services.store;
  const kept: KeptTemplate[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await listTemplates(queries, { ...options, limit: 500, ...(cursor ? { cursor } : {}) });
    for (const template of page.rows) kept.push(await judge(services, template));
    cursor = page.nextCursor;
  }
  return templatesToPrune(kept, bounds, await services.store.now());
}

async function judge(services: Services, template: Template): Promise<KeptTemplate> {
  const { project, contentDigest, location } = template;
  const image = await findImageByDigest(services.store.queries, project, contentDigest);
  const build = await buildOf(services, location);
  return { template, imageThere: image !== undefined, fits: build === undefined || build === template.build };
}

/** What templates of a location would be made with today; undefined where that cannot be told now. */
async function buildOf(services: Services, location: string): Promise<string | undefined> {
  try {
    return await templateBuild(services, location);
  } catch (error) {
    if (error instanceof BerthError) return undefined;
    throw error;
  }
}
