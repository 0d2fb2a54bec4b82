import { command } from "../../command.ts";
import { completionScripts } from "../../completion-scripts.ts";
import { UsageError } from "../../errors.ts";

export default command<Record<never, never>, [string]>({
  description:
    "Prints a script for the shell. bash: berth completion bash > ~/.local/share/bash-completion/completions/berth; " +
    "zsh: berth completion zsh > a folder of $fpath, as _berth; fish: berth completion fish > ~/.config/fish/completions/berth.fish",
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        {
          parse: String,
          brief: "bash, zsh or fish",
          placeholder: "SHELL",
          proposeCompletions: (partial: string) =>
            Object.keys(completionScripts).filter((shell) => shell.startsWith(partial)),
        },
      ],
    },
  },
  run(context, _flags, shell) {
    const script = completionScripts[shell];
    if (!script)
      throw new UsageError(`There is completion for ${Object.keys(completionScripts).join(", ")}, not for ${shell}.`);
    context.print({ shell, script }, () => script);
  },
});
