import { spawn } from "node:child_process";
import { createClient } from "@berth/api";
import { type Context, command, yes } from "../../command.ts";
import { Exit, exitCodes } from "../../errors.ts";
import { logInByBrowser, logInByDevice, revoke } from "../../log-in.ts";
import { readLogin, withLogin, writeLogin } from "../../login-file.ts";
import { loginFile, readSettings, readUrl } from "../../settings.ts";

export default command<{ device?: boolean }, [string?]>({
  description:
    "Opens a page of berthd in the browser, where you log in and let this command line act as you. Where there is no browser, and with --device, it shows a code to type in on another computer. From then on commands go to that berthd as you, until berth logout.",
  parameters: {
    flags: { device: yes("Show a code to type in a browser elsewhere") },
    positional: {
      kind: "tuple",
      parameters: [
        {
          parse: readUrl,
          brief: "Where berthd is; the one that commands go to when not given",
          placeholder: "URL",
          optional: true,
        },
      ],
    },
  },
  async run(context, { device }, given) {
    const url = given ?? (await readSettings(context.outside)).url;
    const path = loginFile(context.outside);
    const login = await interruptible(context, (signal) =>
      device || !hasBrowser(context.outside.env)
        ? logInByDevice(url, {
            signal,
            show: (page, code) => context.out.say(`Open ${page} and allow the code ${code}.`),
          })
        : logInByBrowser(url, {
            signal,
            show: (page) => {
              context.out.say(`Log in in the browser; when none opens, go to ${page}`);
              open(page, context.outside.env);
            },
          }),
    );
    const before = await withLogin(path, async () => {
      const replaced = await readLogin(path).catch(() => undefined);
      await writeLogin(path, login);
      return replaced;
    });
    // It would be good for weeks, and nobody has it any more.
    if (before) await revoke(before).catch(() => undefined);
    const who = await createClient({ url, token: login.accessToken }).whoAmI();
    if (context.outside.env.BERTH_TOKEN)
      context.out.say("BERTH_TOKEN is set, and goes before the login as long as it is.");
    context.print({ url, user: who.name }, () => `Logged in to ${url} as ${who.name}.\n`);
  },
});

/** Runs a login until Ctrl-C. */
async function interruptible<T>(context: Context, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const left = new AbortController();
  const stopListening = context.outside.onInterrupt(() => left.abort(new Exit(exitCodes.interrupted)));
  try {
    return await work(left.signal);
  } catch (error) {
    throw left.signal.aborted ? left.signal.reason : error;
  } finally {
    stopListening();
  }
}

function hasBrowser(env: Context["outside"]["env"]): boolean {
  return process.platform !== "linux" || Boolean(env.DISPLAY || env.WAYLAND_DISPLAY);
}

/** Opens a page with BROWSER, else as the desktop does; whoever has nothing that can has read the address. */
function open(url: string, env: Context["outside"]["env"]): void {
  const program = env.BROWSER || (process.platform === "darwin" ? "open" : "xdg-open");
  const opener = spawn(program, [url], { stdio: "ignore", detached: true });
  opener.on("error", () => {});
  opener.unref();
}
