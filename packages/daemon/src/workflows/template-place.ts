import type { Instance } from "@berth/api";
import { wishedShapeOf } from "../core/template-shape.ts";
import type { TemplatePlace } from "../store/templates.ts";
import type { Services } from "./services.ts";

/** What all templates of a location have in common today; undefined where it keeps none. */
export async function templateBuild(services: Services, location: string): Promise<string | undefined> {
  const driver = services.driver(location);
  if (!driver.abilities.templates || !driver.memoryBuild || !driver.saveMemory) return undefined;
  // What a guest's kernel has read of its disk is part of its memory, so the way that disks are made from images counts too.
  return `${await driver.memoryBuild({ kit: services.kit ?? null })}, disk format ${services.images.artifactVersion}`;
}

/** Where the template that fits an instance's machine is found; undefined where its location keeps none. */
export async function templatePlace(
  services: Services,
  { project, location, spec }: Pick<Instance, "project" | "location" | "spec">,
  contentDigest: string,
): Promise<TemplatePlace | undefined> {
  const build = await templateBuild(services, location);
  return build === undefined ? undefined : { project, location, shape: wishedShapeOf(spec, contentDigest, build) };
}
