import { BerthError } from "@berth/api";
import { readImage } from "../../store/images.ts";
import { requestTemplate } from "../request-template.ts";
import type { Services } from "../services.ts";
import { templatePlace } from "../template-place.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Has the template made that the instance is to begin from; who makes it already is joined. */
export function askForTemplate(services: Services): InstanceStep {
  const { store } = services;
  return {
    name: "request-template",
    async run(context) {
      const instance = await targetInstance(services, context);
      const digest = (await readImage(store.queries, instance.imageId))?.contentDigest;
      const place = digest ? await templatePlace(services, instance, digest) : undefined;
      if (!place)
        throw new BerthError("unsupported_by_driver", `The driver of ${instance.location} keeps no templates.`);
      const { image, nodeId } = instance;
      await store.transaction((tx) => requestTemplate(tx, { place, image, nodeId, requestedBy: context.operation.id }));
      return undefined;
    },
  };
}
