import { routes } from "@berth/api";
import type { FastifyInstance } from "fastify";
import { version } from "./generated-files.ts";
import { openApiDocument } from "./openapi.ts";
import { errorsPage, pageHeaders, referencePage } from "./reference-page.ts";

/** Serves the OpenAPI document, the reference and the errors; none needs a token, and none loads anything from elsewhere. */
export function documentation(app: FastifyInstance): void {
  const document = openApiDocument(routes, version);
  const json = `${JSON.stringify(document, null, 2)}\n`;
  const reference = referencePage(document);
  const errors = errorsPage();
  app.get("/openapi.json", async (_, reply) => reply.type("application/json; charset=utf-8").send(json));
  app.get("/docs", async (_, reply) => reply.headers(pageHeaders).type("text/html; charset=utf-8").send(reference));
  app.get("/docs/errors", async (_, reply) => reply.headers(pageHeaders).type("text/html; charset=utf-8").send(errors));
}
