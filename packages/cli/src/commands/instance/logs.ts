import { command, count, instanceArgument, yes } from "../../command.ts";
import { plainText } from "../../text.ts";

type Flags = {
  follow?: boolean;
  tail?: number;
  timestamps?: boolean;
};

export default command<Flags, [string]>({
  description:
    "On a terminal, colours are shown and every other control sequence is left out; into a file or pipe everything goes as it was written.",
  parameters: {
    flags: {
      follow: yes("Go on with new lines until the instance stops"),
      tail: count("Only the last so many lines"),
      timestamps: yes("Begin each line with the time it was written"),
    },
    aliases: { f: "follow", n: "tail", t: "timestamps" },
    positional: { kind: "tuple", parameters: [instanceArgument] },
  },
  async run(context, { follow, tail, timestamps }, instance) {
    const client = await context.client();
    const left = new AbortController();
    const stopListening = context.outside.onInterrupt(() => left.abort());
    try {
      const query = { tail, follow, timestamps: context.json ? true : timestamps };
      const log = await client.instanceLogs({ params: { instance }, query }, { signal: left.signal });
      if (context.json) await printLines(context.out.print.bind(context.out), log);
      else await context.out.copy(log);
    } catch (error) {
      if (!left.signal.aborted) throw error;
    } finally {
      stopListening();
    }
  },
});

/** Each line as `{"at": …, "line": …}`. */
async function printLines(print: (text: string) => void, log: AsyncIterable<Uint8Array>): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  const printLine = (line: string) => {
    const [at = "", ...words] = line.split(" ");
    print(`${JSON.stringify({ at, line: plainText(words.join(" ")) })}\n`);
  };
  for await (const chunk of log) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(printLine);
  }
  if (rest) printLine(rest);
}
