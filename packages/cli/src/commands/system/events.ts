import type { Event } from "@berth/api";
import { command, count, text, yes } from "../../command.ts";
import { plainText } from "../../text.ts";

type Flags = {
  after?: number;
  type?: string;
  subject?: string;
  list?: boolean;
};

export default command<Flags>({
  description:
    "Prints each event as it happens until Ctrl-C; with --after also those since, with --list only those that there are. --json prints one object a line.",
  parameters: {
    flags: {
      after: count("Begin behind the event of this number"),
      type: text("Only events of this type, as instance.created", "TYPE"),
      subject: text("Only events of this object's id", "ID"),
      list: yes("Print what has happened and end"),
    },
  },
  async run(context, { after, type, subject, list }) {
    const client = await context.client();
    const print = (event: Event) => context.out.print(context.json ? `${JSON.stringify(event)}\n` : line(event));
    if (list) {
      for (let from = after ?? 0; ; ) {
        const { items, next } = await client.listEvents({ query: { after: from, type, subject, limit: 500 } });
        items.forEach(print);
        if (items.length === 0 || next === from) return;
        from = next;
      }
    }
    const left = new AbortController();
    const stopListening = context.outside.onInterrupt(() => left.abort());
    try {
      for await (const event of client.followEvents({ after, signal: left.signal })) {
        if ((type === undefined || event.type === type) && (subject === undefined || event.subject.id === subject))
          print(event);
      }
    } finally {
      stopListening();
    }
  },
});

function line({ seq, at, type, subject, data }: Event): string {
  const facts = Object.entries(data)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return `${plainText([seq, at, type, subject.name, ...facts].join("  ")).replaceAll("\n", " ")}\n`;
}
