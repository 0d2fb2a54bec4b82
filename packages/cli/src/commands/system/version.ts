import { command } from "../../command.ts";
import { version } from "../../version.ts";

export default command({
  parameters: {},
  run(context) {
    context.print({ version, node: process.versions.node }, () => `berth ${version}\n`);
  },
});
