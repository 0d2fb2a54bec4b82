import { createHash } from "node:crypto";
import type { FastifyInstance } from "fastify";

/** A small page for people: what stands between its tags, and the script that moves it. */
interface Page {
  readonly title: string;
  readonly body: string;
  readonly script: string;
}

const style = `
:root { color-scheme: light dark }
body { margin: 15vh auto; max-width: 24rem; padding: 0 1.5rem; font: 16px/1.55 system-ui, sans-serif }
label { display: block; margin: 1rem 0 }
input, button { box-sizing: border-box; width: 100%; padding: .5rem; font: inherit }
button + button { margin-top: .5rem }
`;

/** The value of Content-Security-Policy for a page that may apply this very style, and run this very script, if any, which may talk to berthd alone. */
export function pagePolicy(style: string, script?: string): string {
  const allowed = script === undefined ? "" : `script-src ${digestOf(script)}; connect-src 'self'; `;
  return `default-src 'none'; style-src ${digestOf(style)}; ${allowed}base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
}

function digestOf(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

/** Serves a page that runs its own script and no other, talks to berthd alone, and is shown in no frame. */
export function servePage(app: FastifyInstance, path: string, { title, body, script }: Page): void {
  const html = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Berth: ${title}</title>
<style>${style}</style>
${body}
<output role="status"></output>
<script>${script}</script>
</html>
`;
  const headers = { "content-security-policy": pagePolicy(style, script) };
  app.get(path, async (_, reply) => reply.headers(headers).type("text/html; charset=utf-8").send(html));
}
