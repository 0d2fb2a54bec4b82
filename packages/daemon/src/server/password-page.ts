import { createHash } from "node:crypto";
import type { FastifyInstance } from "fastify";

const style = `
:root { color-scheme: light dark }
body { margin: 15vh auto; max-width: 24rem; padding: 0 1.5rem; font: 16px/1.55 system-ui, sans-serif }
label { display: block; margin: 1rem 0 }
input, button { box-sizing: border-box; width: 100%; padding: .5rem; font: inherit }
`;

/** The code is behind the # of the address, so that it is in no log of any server; it leaves the address at once. */
const script = `
const code = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
const form = document.querySelector("form");
const said = document.querySelector("output");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (form.password.value !== form.again.value) { said.textContent = "The two are not the same."; return; }
  const answer = await fetch("/api/v1/password/set", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ code, password: form.password.value }),
  });
  if (answer.ok) { form.remove(); said.textContent = "The password is set."; return; }
  const problem = await answer.json();
  said.textContent = problem.detail + " " + problem.hint;
});
`;

const html = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Berth: set a password</title>
<style>${style}</style>
<h1>Set a password</h1>
<form>
<label>Password <input type="password" name="password" autocomplete="new-password" required maxlength="256"></label>
<label>Once more <input type="password" name="again" autocomplete="new-password" required maxlength="256"></label>
<button>Set it</button>
</form>
<output role="status"></output>
<script>${script}</script>
</html>
`;

const digestOf = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

const headers = {
  "content-security-policy": `default-src 'none'; style-src ${digestOf(style)}; script-src ${digestOf(script)}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  "referrer-policy": "no-referrer",
} as const;

/** Serves the page where the link of `berth user create` and `berth user reset` leads. */
export function passwordPage(app: FastifyInstance): void {
  app.get("/password", async (_, reply) => reply.headers(headers).type("text/html; charset=utf-8").send(html));
}
