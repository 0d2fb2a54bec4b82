import { loopbackAddress } from "@berth/api";
import type { FastifyInstance } from "fastify";
import { servePage } from "./page.ts";

/** `begin` finds out who is there, or has him log in by the form, and then asks for his consent. */
const logInFirst = `
const $ = (id) => document.getElementById(id);
const said = document.querySelector("output");
const end = (words) => { for (const part of document.querySelectorAll("form, section")) part.hidden = true; said.textContent = words; };
let csrfToken = "";
const send = async (path, body) => {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", ...(csrfToken ? { "x-csrf-token": csrfToken } : {}) },
    body: JSON.stringify(body),
  });
  if (answer.status === 204) return {};
  const told = await answer.json();
  if (answer.ok) return told;
  said.textContent = told.detail + " " + told.hint;
  return undefined;
};
const known = (name, token) => {
  csrfToken = token;
  said.textContent = "";
  $("login").hidden = true;
  $("consent").hidden = false;
  $("who").textContent = name;
};
$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = $("login");
  const told = await send("/api/v1/login", { user: form.user.value, password: form.password.value });
  if (told) known(told.user.name, told.csrfToken);
});
const begin = async () => {
  const answer = await fetch("/api/v1/whoami");
  if (!answer.ok) { $("login").hidden = false; return; }
  const { name, csrfToken: token } = await answer.json();
  known(name, token);
};
`;

const login = `<form id="login" hidden>
<label>Name <input name="user" autocomplete="username" autocapitalize="none" required maxlength="63"></label>
<label>Password <input type="password" name="password" autocomplete="current-password" required maxlength="256"></label>
<button>Log in</button>
</form>`;

const programScript = `${logInFirst}
const asked = new URLSearchParams(location.search);
const back = (answer) => {
  const url = new URL(asked.get("redirect_uri"));
  const state = asked.get("state");
  for (const [name, value] of Object.entries({ ...answer, ...(state === null ? {} : { state }), iss: location.origin })) url.searchParams.set(name, value);
  location.replace(url);
};
// Whatever is answered goes to that address, so nobody is asked anything for another one.
const isOurs = asked.get("response_type") === "code" && asked.get("code_challenge_method") === "S256" && ${loopbackAddress}.test(asked.get("redirect_uri"));
if (isOurs) void begin();
else said.textContent = "This address is not one that berth login made.";
$("allow").addEventListener("click", async () => {
  const scopes = (asked.get("scope") ?? "").split(" ").filter(Boolean);
  const told = await send("/api/v1/login/program", {
    clientId: asked.get("client_id"),
    redirectUri: asked.get("redirect_uri"),
    codeChallenge: asked.get("code_challenge"),
    ...(scopes.length === 0 ? {} : { scopes }),
  });
  if (told) back({ code: told.code });
});
$("refuse").addEventListener("click", () => back({ error: "access_denied" }));
`;

const programBody = `<h1>Log in to Berth</h1>
${login}
<section id="consent" hidden>
<p>The command line <b>berth</b> on this computer asks to act as <b id="who"></b>. Allow it only if you ran <code>berth login</code> just now.</p>
<button id="allow">Allow</button>
<button id="refuse">Refuse</button>
</section>`;

const deviceScript = `${logInFirst}
$("code").value = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
void begin();
const decide = async (allow) => {
  const told = await send("/api/v1/login/device", { userCode: $("code").value, allow });
  if (told) end(allow ? "It is logged in. You can close this page." : "It is refused. You can close this page.");
};
$("consent").addEventListener("submit", (event) => { event.preventDefault(); void decide(true); });
$("refuse").addEventListener("click", () => void decide(false));
`;

const deviceBody = `<h1>Let a device in</h1>
${login}
<form id="consent" hidden>
<p>A terminal that shows this code asks to act as <b id="who"></b>. Allow it only if you ran <code>berth login</code> there yourself: whoever sent you this code acts as you.</p>
<label>Code <input id="code" autocomplete="off" autocapitalize="characters" spellcheck="false" required maxlength="20"></label>
<button>Allow</button>
<button type="button" id="refuse">Refuse</button>
</form>`;

/** Serves the pages on which a user lets `berth login` act as himself: on this computer by its loopback address, elsewhere by the code that is shown there. */
export function loginPages(app: FastifyInstance): void {
  servePage(app, "/oauth/authorize", { title: "log in", body: programBody, script: programScript });
  servePage(app, "/device", { title: "let a device in", body: deviceBody, script: deviceScript });
}
