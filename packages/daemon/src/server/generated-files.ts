import { readFileSync } from "node:fs";
import { routes } from "@berth/api";
import { listErrors, openApiDocument } from "./openapi.ts";

/** The version of this berthd. */
export const version: string = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;

/** The documents made from code, by their path in the repository; `npm run generate` writes them and a test keeps them fresh. */
export function generatedFiles(): Readonly<Record<string, string>> {
  return {
    "docs/openapi.json": `${JSON.stringify(openApiDocument(routes, version), null, 2)}\n`,
    "docs/errors.md": errorsMarkdown(),
  };
}

function errorsMarkdown(): string {
  const sections = listErrors().map(({ code, status, title, hint }) => `## ${code}\n\n${status}. ${title}. ${hint}\n`);
  return `# Errors

Every answer of the API that is no success is a problem (RFC 9457, \`application/problem+json\`), and every operation that failed carries one:

\`\`\`json
{
  "type": "/docs/errors#name_taken",
  "title": "The name is in use",
  "status": 409,
  "code": "name_taken",
  "detail": "There is already an instance called web.",
  "hint": "Choose another name, or delete the object that has it.",
  "requestId": "req-5b1f7a0c-17"
}
\`\`\`

\`detail\` says what happened this time, \`hint\` what to do next. A request that is not valid has \`errors\`, a list of \`{path, message}\`; a \`busy\` object has
the \`operationId\` of who holds it. \`requestId\` finds the request in berthd's log. Scripts should look at \`code\`: it never changes its meaning.
This page is made from \`packages/api/src/errors.ts\` by \`npm run generate\`; a running berthd serves the same at \`/docs/errors\`.

${sections.join("\n")}`;
}
