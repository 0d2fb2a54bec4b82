import type { ImageChange } from "@berth/api";
import { answerChange, type Call, changeOptions, type Handlers } from "../call.ts";

type ImageRoutes = "listImages" | "pullImage" | "buildImage" | "getImage" | "deleteImage";

const answer = (call: Call<"pullImage" | "buildImage" | "deleteImage">, change: ImageChange) =>
  answerChange(call, change, async () => ({ image: await call.services.images.get(call.scope, change.image.id) }));

export const imageHandlers: Handlers<ImageRoutes> = {
  listImages: ({ services, scope, query }) => {
    const { limit, cursor, reference } = query;
    return services.images.list(scope, { limit, cursor, reference });
  },
  pullImage: async (call) =>
    answer(call, await call.services.images.pull(call.scope, call.body, changeOptions("pullImage", call))),
  buildImage: async (call) => {
    // It reads folders of the node and runs what a Dockerfile says beside berthd.
    call.authorize("use", "system", call.scope.project);
    return answer(call, await call.services.images.build(call.scope, call.body, changeOptions("buildImage", call)));
  },
  getImage: ({ services, scope, params }) => services.images.get(scope, params.image),
  deleteImage: async (call) =>
    answer(call, await call.services.images.remove(call.scope, call.params.image, changeOptions("deleteImage", call))),
};
