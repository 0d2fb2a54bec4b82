import { routes } from "@berth/api";
import type { FastifyInstance } from "fastify";
import { version } from "./generated-files.ts";
import { openApiDocument } from "./openapi.ts";
import { errorsPage, pageHeaders, referencePage } from "./reference-page.ts";

/**
 * Serves the OpenAPI document, the reference and the errors; none needs a token, and none loads anything from elsewhere. Each is made when it is first
 * asked for, so that starting does not wait for what most runs never show.
 */
export function documentation(app: FastifyInstance): void {
  const document = once(() => openApiDocument(routes, version));
  const json = once(() => `${JSON.stringify(document(), null, 2)}\n`);
  const reference = once(() => referencePage(document()));
  const errors = once(errorsPage);
  const html = "text/html; charset=utf-8";
  app.get("/openapi.json", async (_, reply) => reply.type("application/json; charset=utf-8").send(json()));
  app.get("/docs", async (_, reply) => reply.headers(pageHeaders).type(html).send(reference()));
  app.get("/docs/errors", async (_, reply) => reply.headers(pageHeaders).type(html).send(errors()));
}

/** Makes something at its first use and keeps it. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
