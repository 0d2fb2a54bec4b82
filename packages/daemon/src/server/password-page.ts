import type { FastifyInstance } from "fastify";
import { servePage } from "./page.ts";

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

const body = `<h1>Set a password</h1>
<form>
<label>Password <input type="password" name="password" autocomplete="new-password" required maxlength="256"></label>
<label>Once more <input type="password" name="again" autocomplete="new-password" required maxlength="256"></label>
<button>Set it</button>
</form>`;

/** Serves the page where the link of `berth user create` and `berth user reset` leads. */
export function passwordPage(app: FastifyInstance): void {
  servePage(app, "/password", { title: "set a password", body, script });
}
