import { ImageChange } from "../change.ts";
import { ChangeQuery, pageOf } from "../common.ts";
import { BuildImage, Image, ImageParams, ListImagesQuery, PullImage } from "../image.ts";
import { route } from "../route.ts";

const projectQuery = ChangeQuery.pick({ project: true });
const images = "/api/v1/images";

/** The requests about images. */
export const imageRoutes = {
  listImages: route({
    method: "GET",
    path: images,
    summary: "List images",
    resource: "image",
    action: "list",
    kind: "json",
    query: ListImagesQuery,
    status: 200,
    response: pageOf(Image),
  }),
  pullImage: route({
    method: "POST",
    path: `${images}/pull`,
    summary: "Pull an image from a registry",
    resource: "image",
    action: "create",
    kind: "json",
    query: ChangeQuery,
    body: PullImage,
    status: 202,
    response: ImageChange,
    idempotent: true,
  }),
  buildImage: route({
    method: "POST",
    path: `${images}/build`,
    summary: "Build an image from a Dockerfile",
    resource: "image",
    action: "create",
    kind: "json",
    query: ChangeQuery,
    body: BuildImage,
    status: 202,
    response: ImageChange,
    idempotent: true,
  }),
  getImage: route({
    method: "GET",
    path: `${images}/:image`,
    summary: "Show one image",
    resource: "image",
    action: "read",
    kind: "json",
    params: ImageParams,
    query: projectQuery,
    status: 200,
    response: Image,
  }),
  deleteImage: route({
    method: "DELETE",
    path: `${images}/:image`,
    summary: "Delete an image and its artifacts",
    resource: "image",
    action: "delete",
    kind: "json",
    params: ImageParams,
    query: ChangeQuery,
    status: 202,
    response: ImageChange,
    idempotent: true,
  }),
};
