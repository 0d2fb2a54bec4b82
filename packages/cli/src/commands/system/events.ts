import type { Event, EventGap } from "@berth/api";
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
    "Prints each event as it happens until Ctrl-C; with --after also those since, with --list only those that there are. --json prints one object a line. Where events are not kept any more since the number given, " +
    'or since a connection was lost, that is told: --json has {"gap": {"after": 5, "next": 900}} in their place.',
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
    const tellGap = (gap: EventGap) => {
      if (context.json) context.out.print(`${JSON.stringify({ gap })}\n`);
      else context.out.say(gapLine(gap));
    };
    if (list) {
      for (let from = after ?? 0; ; ) {
        const { items, next, gap } = await client.listEvents({ query: { after: from, type, subject, limit: 500 } });
        // Who asks for all that there are has not missed any.
        if (gap && from > 0) tellGap(gap);
        items.forEach(print);
        if (items.length === 0 || next === from) return;
        from = next;
      }
    }
    const left = new AbortController();
    const stopListening = context.outside.onInterrupt(() => left.abort());
    try {
      for await (const event of client.followEvents({ after, signal: left.signal, onGap: tellGap })) {
        if ((type === undefined || event.type === type) && (subject === undefined || event.subject.id === subject))
          print(event);
      }
    } finally {
      stopListening();
    }
  },
});

function gapLine({ after, next }: EventGap): string {
  return next < after
    ? `There is no event ${after} here: the newest is ${next}, so these are other records than then. See anew what there is.`
    : `Events ${after + 1} to ${next} are not kept any more. See anew what there is.`;
}

function line({ seq, at, type, subject, data }: Event): string {
  const facts = Object.entries(data)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return `${plainText([seq, at, type, subject.name, ...facts].join("  ")).replaceAll("\n", " ")}\n`;
}
