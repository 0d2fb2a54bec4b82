import { type Image, type ImageSource, isId } from "@berth/api";
import type { Context } from "./command.ts";
import { UserError } from "./errors.ts";
import { follow } from "./follow.ts";
import { buildRequest } from "./image-source.ts";

/** Finds an image by id or reference. */
export async function findImage(context: Context, image: string): Promise<Image> {
  const client = await context.client();
  if (isId(image)) return client.getImage({ params: { image } });
  const { items } = await client.listImages({ query: { reference: image } });
  const [found] = items;
  if (!found)
    throw new UserError(`There is no image ${image} here.`, "See berth image ls; berth image pull fetches one.");
  return found;
}

/** The reference, URL, folder or snapshot that an image was made from. */
export function whereFrom(source: ImageSource): string {
  if ("reference" in source) return source.reference;
  if (source.type === "snapshot") return `${source.snapshot.name} of ${source.instance.name}`;
  return source.type === "git" ? source.url : source.path;
}

/** Builds an image and waits for it; when that fails, the end of the build's log is shown. */
export async function buildAndWait(
  context: Context,
  source: string,
  options: Parameters<typeof buildRequest>[2],
): Promise<Image> {
  const client = await context.client();
  const body = await buildRequest(source, context.outside.cwd, options);
  const { image, operation } = await client.buildImage({ body }, { idempotencyKey: crypto.randomUUID() });
  try {
    await follow(context, operation);
  } catch (error) {
    await showLogEnd(context, operation.id, error);
    throw error;
  }
  return client.getImage({ params: { image: image.id } });
}

const shownLines = 30;

async function showLogEnd(context: Context, operation: string, error: unknown): Promise<void> {
  if ((error as { problem?: unknown }).problem === undefined) return;
  const client = await context.client();
  const log = await new Response(await client.operationLog({ params: { operation } })).text().catch(() => "");
  for (const line of log.trimEnd().split("\n").slice(-shownLines)) if (line) context.out.say(line);
}
