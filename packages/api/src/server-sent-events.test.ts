import fc from "fast-check";
import { expect, test } from "vitest";
import { readServerSentEvents } from "./server-sent-events.ts";

async function* inPieces(text: string, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let start = 0;
  for (const end of [...ends, bytes.length]) {
    yield bytes.subarray(start, end);
    start = end;
  }
}

test("messages are the same however the bytes arrive and lines end", async () => {
  const text =
    ': comment\nretry: 1000\nid: 6\n\nid: 7\ndata: {"ä": 1}\n\n:\n\ndata:two\ndata: lines\nevent: x\n\ndata\n\nid: 8\ndata: cut';
  const messages = [
    { id: "7", type: "message", data: '{"ä": 1}' },
    { id: "7", type: "x", data: "two\nlines" },
    { id: "7", type: "message", data: "" },
  ];
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(200), { maxLength: 12 }),
      fc.constantFrom("\n", "\r\n", "\r"),
      async (cuts, end) => {
        const ids: string[] = [];
        const read = readServerSentEvents(inPieces(text.replaceAll("\n", end), cuts), (id) => ids.push(id));
        const seen = [];
        for await (const message of read) seen.push(message);
        expect(seen).toEqual(messages);
        // The message that was cut off must come again, so its id is not one to go on after.
        expect(ids).toEqual(["6", "7"]);
      },
    ),
  );
});
