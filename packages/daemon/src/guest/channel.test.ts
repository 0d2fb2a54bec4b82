import { once } from "node:events";
import { type Duplex, duplexPair } from "node:stream";
import { setImmediate as soon } from "node:timers/promises";
import { expect, it } from "vitest";
import { GuestChannel } from "./channel.ts";
import { createKeys } from "./keys.ts";

/** The guest's end of a port: it echoes the call, as its relay does, and says nothing more. */
async function echoCall(port: Duplex): Promise<void> {
  let heard = "";
  for (;;) {
    const [chunk] = await once(port, "data");
    heard += String(chunk);
    const call = /BERTH-CHANNEL:[0-9a-f]{32}\n/.exec(heard)?.[0];
    if (call) return void port.write(`\n${call}`);
  }
}

// An error that nobody listens for would end the daemon; here it would fail the run.
it.each(["says nothing more", "hangs up"])(
  "a guest that answers the call and %s is unreachable, and no harm is done",
  async (what) => {
    const [host, guest] = duplexPair();
    const silent = new AbortController();
    const connecting = GuestChannel.connect(host, createKeys(), silent.signal);
    await echoCall(guest);
    await soon();
    if (what === "hangs up") {
      guest.end();
      await expect(connecting).rejects.toMatchObject({ code: "guest_unreachable" });
    } else {
      silent.abort(new Error("long enough"));
      await expect(connecting).rejects.toThrow("long enough");
    }
    if (!host.closed) await once(host, "close");
  },
);
