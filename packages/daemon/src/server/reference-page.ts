import { execFrames } from "@berth/api";
import {
  type JsonSchema,
  listErrors,
  type MediaContent,
  type OpenApiDocument,
  type OpenApiOperation,
} from "./openapi.ts";
import { pagePolicy } from "./page.ts";

/** Pages are one file each: the style is inside, and there is no script. */
const style = `
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e2e6eb); --quiet: light-dark(#5b6572, #98a3b0); --paper: light-dark(#fff, #14171b);
  --sunk: light-dark(#f4f6f8, #1c2026); --line: light-dark(#e1e5ea, #2c323a); --link: light-dark(#0b5cad, #7ab8ff);
  --get: light-dark(#0b6e4f, #5fd3a6); --post: light-dark(#0b5cad, #7ab8ff); --put: light-dark(#8a5300, #f0b35a); --delete: light-dark(#b02a37, #ff8b94); }
* { box-sizing: border-box }
html { scroll-padding-top: 1rem }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
.shell { display: grid; grid-template-columns: 17rem minmax(0, 52rem); gap: 3rem; max-width: 78rem; margin: 0 auto; padding: 0 1.5rem }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.5rem 0; font-size: .9rem }
nav a { display: block; padding: .12rem 0; color: var(--ink); text-decoration: none }
nav a:hover { color: var(--link) }
nav h2 { margin: 1.2rem 0 .3rem; font-size: .78rem; letter-spacing: .06em; text-transform: uppercase; color: var(--quiet) }
main { padding: 1.5rem 0 6rem }
h1 { font-size: 2rem; line-height: 1.2; margin: .5rem 0 1rem }
h2 { font-size: 1.35rem; margin: 3.5rem 0 .5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); text-transform: capitalize }
h3 { font-size: 1.08rem; margin: 2.6rem 0 .3rem }
h3 a { color: inherit; text-decoration: none }
h4 { font-size: .78rem; letter-spacing: .06em; text-transform: uppercase; color: var(--quiet); margin: 1.2rem 0 .3rem }
a { color: var(--link) }
code, pre { font: .875em/1.5 ui-monospace, monospace }
code { background: var(--sunk); border-radius: 4px; padding: .1em .3em; overflow-wrap: anywhere }
pre { background: var(--sunk); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; margin: .6rem 0 }
pre code { background: none; padding: 0; overflow-wrap: normal }
.route { font: 600 .9rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
.method { display: inline-block; min-width: 4.2em; color: var(--get) }
.post { color: var(--post) } .put { color: var(--put) } .delete { color: var(--delete) }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th { text-align: left; font-weight: 600; color: var(--quiet) }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .8rem .35rem 0; vertical-align: top }
td:first-child { white-space: nowrap }
.quiet { color: var(--quiet) }
@media (max-width: 56rem) { .shell { grid-template-columns: minmax(0, 1fr) } nav { position: static; height: auto } td:first-child { white-space: normal } }
`;

/** Nothing may be loaded, run, framed or sent from the pages; only this very style applies. */
export const pageHeaders = { "content-security-policy": pagePolicy(style) } as const;

/** The reference: every request with an example, every type, and how to begin. */
export function referencePage(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const ofTag = (tag: string) => operations.filter(({ operation }) => operation.tags.includes(tag));
  const types = Object.entries(document.components.schemas);
  const navigation = [
    `<a href="#begin"><b>Begin</b></a>`,
    ...document.tags.map(
      ({ name }) =>
        `<h2>${escapeHtml(name)}</h2>${ofTag(name)
          .map(({ operation }) => `<a href="#${operation.operationId}">${escapeHtml(operation.summary)}</a>`)
          .join("")}`,
    ),
    `<h2>Types</h2>${types.map(([name]) => `<a href="#type-${name}">${name}</a>`).join("")}`,
    `<h2>More</h2><a href="/docs/errors">Errors</a><a href="/openapi.json">openapi.json</a>`,
  ].join("");
  const sections = document.tags.map(
    ({ name }) =>
      `<h2 id="${escapeHtml(name)}">${escapeHtml(name)}</h2>${ofTag(name)
        .map(({ path, method, operation }) => operationSection(path, method, operation, document))
        .join("")}`,
  );
  const body = `<h1>The Berth API <span class="quiet">${escapeHtml(document.info.version)}</span></h1>${begin}${sections.join("")}
<h2 id="types">Types</h2>${types.map(([name, schema]) => typeSection(name, schema)).join("")}`;
  return page("Berth API reference", navigation, body);
}

/** The errors: what each means and what to do. */
export function errorsPage(): string {
  const errors = listErrors();
  const navigation = `<a href="/docs"><b>API reference</b></a><h2>Errors</h2>${errors.map(({ code }) => `<a href="#${code}">${code}</a>`).join("")}`;
  const sections = errors.map(
    ({ code, status, title, hint }) =>
      `<h3 id="${code}"><a href="#${code}"><code>${code}</code></a> <span class="quiet">${status}</span></h3><p>${escapeHtml(title)}. ${escapeHtml(hint)}</p>`,
  );
  const words = `<p>An answer that is no success is a <code>Problem</code> (<code>application/problem+json</code>, RFC 9457). Its <code>code</code> is one of these;
<code>detail</code> says what happened this time, <code>hint</code> what to do next, and <code>requestId</code> finds it in berthd's log.</p>`;
  return page("Berth errors", navigation, `<h1>Errors</h1>${words}${sections.join("")}`);
}

const begin = `<p id="begin">Every request carries a token. The one that berthd made on its first run is in its data folder:</p>
<pre><code>export BERTH_URL=http://127.0.0.1:8642
export BERTH_TOKEN=$(cat ~/.local/share/berth/admin-token)   # as root: /var/lib/berth/admin-token
curl -H "Authorization: Bearer $BERTH_TOKEN" $BERTH_URL/api/v1/instances</code></pre>
<p>A change answers <b>202</b> with the object and the <b>operation</b> that carries it out: follow it with <code>/watch</code>, or add <code>?wait=60</code> to be answered
when it has ended. With an <code>Idempotency-Key</code>, sending a change again does it once. An instance's <code>ETag</code> is its generation: send it back in
<code>If-Match</code> to be refused when somebody else changed the instance since. Lists come in pages: go on with <code>nextCursor</code>, or the <code>Link</code> header.
Streams of events are resumed with <code>Last-Event-ID</code>. Errors are listed <a href="/docs/errors">here</a>.</p>`;

function operationSection(
  path: string,
  method: string,
  operation: OpenApiOperation,
  document: OpenApiDocument,
): string {
  const parameters = operation.parameters.filter((parameter) => parameter.in !== "path");
  const rows = parameters.map(
    ({ name, in: place, required, description = "", schema }) =>
      `<tr><td><code>${escapeHtml(name)}</code></td><td>${place}${required ? ", required" : ""}</td><td>${typeWords(schema)}${description ? `. ${inline(description)}` : ""}</td></tr>`,
  );
  const [status, success] = Object.entries(operation.responses)[0] ?? [];
  const answers = contentWords(success?.content);
  return `<h3 id="${operation.operationId}"><a href="#${operation.operationId}">${escapeHtml(operation.summary)}</a></h3>
<p class="route"><span class="method ${method}">${method.toUpperCase()}</span> ${escapeHtml(path)}</p>
${operation.description ? `<p>${inline(operation.description)}</p>` : ""}
${rows.length > 0 ? `<table>${rows.join("")}</table>` : ""}
${operation.requestBody ? `<p>Body: ${contentWords(operation.requestBody.content)}</p>` : ""}
<p>Answers <b>${status}</b>${answers ? `: ${answers}` : ""}</p>
<pre><code>${escapeHtml(example(path, method, operation, document))}</code></pre>`;
}

function contentWords(content: MediaContent | undefined): string {
  return Object.entries(content ?? {})
    .map(([type, { schema }]) => {
      const message = schema["x-message"] as JsonSchema | undefined;
      if (message) return `<code>${type}</code>, each message ${typeWords(message)}`;
      return schema.type === "string" || Object.keys(schema).length === 0 ? `<code>${type}</code>` : typeWords(schema);
    })
    .join(", ");
}

/** A command that can be pasted into a shell where BERTH_URL and BERTH_TOKEN are set. */
function example(path: string, method: string, operation: OpenApiOperation, document: OpenApiDocument): string {
  const examples: Record<string, string> = {
    instance: "web",
    image: "img-0123456789abcdef0",
    operation: "op-0123456789abcdef0",
    node: "node1",
  };
  const url = path.replace(/\{(\w+)\}/g, (_, name: string) => examples[name] ?? name);
  const answer = Object.keys(operation.responses)[0];
  if (answer === "101") {
    const request =
      operation.operationId === "execInstance" ? `\n# then send, as text: {"command": ["uname", "-a"]}` : "";
    return `websocat -b -H "Authorization: Bearer $BERTH_TOKEN" "\${BERTH_URL/http/ws}${url}"${request}\n# frames: ${Object.entries(
      execFrames,
    )
      .map(([name, byte]) => `${byte} ${name}`)
      .join(", ")}`;
  }
  const required = operation.parameters.filter((parameter) => parameter.in === "query" && parameter.required);
  const wait = operation.parameters.some(({ name }) => name === "wait") ? ["wait=60"] : [];
  const query = [...required.map(({ name }) => `${name}=${name === "path" ? "/etc" : ""}`), ...wait].join("&");
  const isStream = Object.keys(operation.responses[answer ?? ""]?.content ?? {}).includes("text/event-stream");
  const lines = [
    `curl ${isStream ? "-N " : ""}${method === "get" ? "" : method === "head" ? "-I " : `-X ${method.toUpperCase()} `}-H "Authorization: Bearer $BERTH_TOKEN" "$BERTH_URL${url}${query ? `?${query}` : ""}"`,
  ];
  const bodySchema = operation.requestBody?.content["application/json"]?.schema;
  if (bodySchema) {
    const name = String(bodySchema.$ref).split("/").at(-1) ?? "";
    const body = (document.components.schemas[name]?.examples as unknown[] | undefined)?.[0] ?? {};
    lines.push(`-H "Content-Type: application/json"`, `-d '${JSON.stringify(body)}'`);
  }
  if (operation.requestBody?.content["application/x-tar"])
    lines.push(`-H "Content-Type: application/x-tar"`, "--data-binary @files.tar");
  if (operation.requestBody?.content["application/offset+octet-stream"])
    lines.push(`-H "Content-Type: application/offset+octet-stream"`, `-H "Upload-Offset: 0"`, "-T web.berth");
  if (Object.keys(operation.responses[answer ?? ""]?.content ?? {}).includes("application/x-tar"))
    lines.push("-o files.tar");
  if (Object.keys(operation.responses[answer ?? ""]?.content ?? {}).includes("application/octet-stream"))
    lines.push("-C - -o web.berth");
  return lines.join(" \\\n  ");
}

function typeSection(name: string, schema: JsonSchema): string {
  const properties = Object.entries((schema.properties ?? {}) as Record<string, JsonSchema>);
  const required = (schema.required ?? []) as string[];
  const rows = properties.map(([key, property]) => {
    const optional =
      required.includes(key) || property.default !== undefined ? "" : ` <span class="quiet">optional</span>`;
    const words = property.description ? `<br>${inline(String(property.description))}` : "";
    return `<tr><td><code>${escapeHtml(key)}</code></td><td>${typeWords(property)}${optional}${words}</td></tr>`;
  });
  const content = rows.length > 0 ? `<table>${rows.join("")}</table>` : `<p>${typeWords(schema)}</p>`;
  return `<h3 id="type-${name}"><a href="#type-${name}">${name}</a></h3>${content}`;
}

/** A schema in words, with its limits; HTML. */
function typeWords(schema: JsonSchema): string {
  if (typeof schema.$ref === "string") {
    const name = schema.$ref.split("/").at(-1) ?? "";
    return `<a href="#type-${name}">${name}</a>`;
  }
  if (schema.const !== undefined) return `<code>${escapeHtml(JSON.stringify(schema.const))}</code>`;
  if (Array.isArray(schema.enum))
    return schema.enum.map((value) => `<code>${escapeHtml(String(value))}</code>`).join(" | ");
  const alternatives = (schema.anyOf ?? schema.oneOf) as JsonSchema[] | undefined;
  if (alternatives) return alternatives.map((one) => typeWords(one)).join(" | ") + limits(schema);
  if (schema.type === "array") return `list of ${typeWords(schema.items as JsonSchema)}${limits(schema)}`;
  if (schema.type === "object" && schema.properties) {
    const fields = Object.entries(schema.properties as Record<string, JsonSchema>);
    return `{ ${fields.map(([key, property]) => `<code>${escapeHtml(key)}</code>: ${typeWords(property)}`).join(", ")} }`;
  }
  if (schema.type === "object")
    return `map of ${typeWords((schema.additionalProperties ?? {}) as JsonSchema)}${limits(schema)}`;
  const type = Array.isArray(schema.type) ? schema.type.join(" | ") : String(schema.type ?? "anything");
  return `${schema.format === "date-time" ? "time (RFC 3339)" : type}${limits(schema)}`;
}

function limits(schema: JsonSchema): string {
  const words = [
    schema.minimum !== undefined && schema.maximum !== undefined ? `${schema.minimum} to ${schema.maximum}` : "",
    schema.minimum !== undefined && schema.maximum === undefined ? `at least ${schema.minimum}` : "",
    schema.maxLength !== undefined ? `at most ${schema.maxLength} characters` : "",
    schema.maxItems !== undefined ? `at most ${schema.maxItems}` : "",
    schema.default === undefined ? "" : `default <code>${escapeHtml(JSON.stringify(schema.default))}</code>`,
  ].filter(Boolean);
  return words.length > 0 ? ` <span class="quiet">(${words.join(", ")})</span>` : "";
}

/** Text with `code` in back-quotes. */
function inline(text: string): string {
  return escapeHtml(text).replace(/`([^`]+)`/g, "<code>$1</code>");
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function page(title: string, navigation: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escapeHtml(title)}</title><style>${style}</style></head>
<body><div class="shell"><nav aria-label="Contents">${navigation}</nav><main>${body}</main></div></body></html>
`;
}
