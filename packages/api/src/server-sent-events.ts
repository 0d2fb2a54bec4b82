/** One message of an event stream; `id` is the last id seen so far, empty when there was none; `type` is `message` where nothing else is said. */
export interface ServerSentEvent {
  readonly id: string;
  readonly type: string;
  readonly data: string;
}

/**
 * Reads Server-Sent Events (WHATWG HTML, section 9.2.6) from a body. Comments and `retry` are passed over; a message cut off by the end is dropped, as it
 * will come again after reconnecting. `onId` hears each id once its message is whole, also one without a message: where to go on after a break.
 */
export async function* readServerSentEvents(
  body: AsyncIterable<Uint8Array>,
  onId: (id: string) => void = () => {},
): AsyncGenerator<ServerSentEvent, void> {
  let id = "";
  let told = "";
  let type = "";
  let data: string[] = [];
  for await (const line of readLines(body)) {
    if (line === "") {
      if (id !== told) onId(id);
      told = id;
      if (data.length > 0) yield { id, type: type || "message", data: data.join("\n") };
      data = [];
      type = "";
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") data.push(value);
    if (field === "event") type = value;
    if (field === "id" && !value.includes("\0")) id = value;
  }
}

/** The lines of a body in UTF-8, ended by LF, CR LF or CR. What follows the last line end is dropped. */
async function* readLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    // A CR at the very end may be half of a CR LF.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    yield* lines;
  }
}
