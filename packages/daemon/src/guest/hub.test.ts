import { Duplex, PassThrough } from "node:stream";
import { BerthError } from "@berth/api";
import { expect, it } from "vitest";
import type { GuestConfig } from "./config.ts";
import { GuestHub } from "./hub.ts";
import { createKeys } from "./keys.ts";

const keys = createKeys();
const hello = { fact: "hello", uptimeMs: 1, protocol: 1, bootId: "b", ready: false, reason: "", listening: [] };

/** A guest of two pipes: what it says goes in at `say`, what it is told is in `told`. */
function toyGuest() {
  const said = new PassThrough();
  const heard = new PassThrough().setEncoding("utf8");
  let told = "";
  heard.on("data", (text: string) => {
    told += text;
  });
  return {
    port: Duplex.from({ readable: said, writable: heard }),
    say: (fact: object) => said.write(`\n${JSON.stringify(fact)}\n`),
    end: () => said.end(),
    told: () =>
      told
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line).command),
  };
}

it("configures a waiting guest, hears it out, comes back when the port closes, and says when it is gone", async () => {
  const hub = new GuestHub();
  const guests = [toyGuest(), toyGuest()];
  let opened = 0;
  hub.attach("i", {
    keys,
    config: () => ({ hostname: "web" }) as GuestConfig,
    async openPort() {
      const guest = guests[opened++];
      if (!guest) throw new BerthError("instance_not_running", "off");
      return guest.port;
    },
  });
  const soon = () => AbortSignal.timeout(5000);
  guests[0]?.say({ ...hello, phase: "booting", code: null, signal: null });
  guests[0]?.say({ fact: "ready", uptimeMs: 2 });
  await hub.waitFor("i", ({ ready }) => ready, soon());
  expect(guests[0]?.told()).toEqual(["hello", "configure"]);
  guests[0]?.end();
  guests[1]?.say({ ...hello, phase: "exited", code: 3, signal: null });
  expect((await hub.waitFor("i", ({ exit }) => exit !== null, soon())).exit).toEqual({ code: 3, signal: null });
  expect(guests[1]?.told()).toEqual(["hello"]);
  guests[1]?.end();
  await hub.waitFor("i", ({ gone }) => gone, soon());
  const waiting = hub.waitFor("i", () => false, soon());
  hub.close();
  await expect(waiting).rejects.toMatchObject({ code: "guest_unreachable" });
  await expect(hub.channel("i", soon())).rejects.toMatchObject({ code: "guest_unreachable" });
});
