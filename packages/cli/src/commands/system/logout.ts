import { command } from "../../command.ts";
import { UserError } from "../../errors.ts";
import { revoke } from "../../log-in.ts";
import { forgetLogin, readLogin, withLogin } from "../../login-file.ts";
import { loginFile } from "../../settings.ts";

export default command({
  description: "Ends the login at its berthd, and forgets it here.",
  parameters: {},
  async run(context) {
    const path = loginFile(context.outside);
    const ended = await withLogin(path, async () => {
      const login = await readLogin(path).catch(() => undefined);
      await forgetLogin(path);
      return login;
    });
    if (!ended)
      throw new UserError("Nobody is logged in here.", "Tokens in BERTH_TOKEN and config.json are no logins.");
    await revoke(ended).catch((error: Error) =>
      context.out.say(`It is forgotten here, but ${ended.url} could not be told: ${error.message}`),
    );
    context.print({ url: ended.url }, () => `Logged out of ${ended.url}.\n`);
  },
});
