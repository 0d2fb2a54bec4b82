import { Duplex, PassThrough } from "node:stream";
import { BerthError } from "@berth/api";
import { describe, expect, it } from "vitest";
import type { GuestConfig } from "./config.ts";
import { GuestHub } from "./hub.ts";
import { createKeys } from "./keys.ts";

const keys = createKeys();
const soon = () => AbortSignal.timeout(60_000);
const hello = {
  fact: "hello",
  uptimeMs: 1,
  protocol: 1,
  bootId: "b",
  ready: false,
  reason: "",
  listening: [],
  held: false,
  moved: false,
  generation: "",
};

const running = { ...hello, phase: "running", code: null, signal: null };

/** A guest of two pipes: what it says goes in at `say`, what it is told is in `told`. */
function toyGuest(onCommand: (command: string) => void = () => {}) {
  const said = new PassThrough();
  const heard = new PassThrough().setEncoding("utf8");
  let told = "";
  heard.on("data", (text: string) => {
    told += text;
    for (const line of text.split("\n").filter(Boolean)) onCommand(JSON.parse(line).command);
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

describe("a guest that holds", () => {
  /** A hub with one guest, which answers a command with what the table says. */
  async function attach(answers: Readonly<Record<string, object>>) {
    const hub = new GuestHub();
    const guest = toyGuest((command) => answers[command] && guest.say({ uptimeMs: 1, ...answers[command] }));
    let opened = 0;
    const config = () => ({ hostname: "child" }) as GuestConfig;
    hub.attach("i", { keys, config, openPort: async () => (opened++ ? new Promise(() => {}) : guest.port) });
    await hub.waitFor("i", ({ connected }) => connected, soon());
    return { hub, guest };
  }

  it("answers what it is asked, or refuses with its reason", async () => {
    const refusal = { fact: "refused", command: "thaw", reason: "nothing is frozen" };
    const { hub } = await attach({
      ...{ hold: { fact: "held", generation: "g" }, release: { fact: "released", by: "host" } },
      ...{ freeze: { fact: "frozen" }, thaw: refusal },
    });
    await hub.hold("i", soon());
    expect(hub.latest("i")).toMatchObject({ held: true });
    await hub.release("i", soon());
    expect(hub.latest("i")).toMatchObject({ held: false });
    await hub.freeze("i", soon());
    await expect(hub.thaw("i", soon())).rejects.toMatchObject({
      code: "guest_refused",
      message: "The guest refused to thaw: nothing is frozen.",
    });
    expect(hub.latest("i")).toMatchObject({ reason: "" });
    hub.close();
  });

  it("is not taken to have waited for the host when it let go by itself", async () => {
    const refusal = { fact: "refused", command: "release", reason: "nothing is held" };
    const { hub, guest } = await attach({ release: refusal });
    guest.say({ fact: "released", uptimeMs: 1, by: "time" });
    await expect(hub.release("i", soon())).rejects.toMatchObject({ code: "guest_refused" });
    hub.close();
  });

  it("is lost to those who ask it when its port closes or the time is up", async () => {
    const { hub, guest } = await attach({});
    await expect(hub.hold("i", AbortSignal.timeout(10))).rejects.toMatchObject({ name: "TimeoutError" });
    const asked = hub.hold("i", soon());
    guest.end();
    await expect(asked).rejects.toMatchObject({ code: "guest_unreachable" });
    await expect(hub.hold("i", soon())).rejects.toMatchObject({ code: "guest_unreachable" });
    await expect(hub.hold("j", soon())).rejects.toMatchObject({ code: "guest_unreachable" });
    hub.close();
  });

  it("is told once who it is when it finds itself in another machine, and is ready anew", async () => {
    const { hub, guest } = await attach({});
    guest.say({ ...running, ready: true, listening: [80], held: true, generation: "1" });
    await hub.waitFor("i", ({ held, moved, ready }) => held && !moved && ready, soon());
    for (let time = 0; time < 2; time++)
      guest.say({ ...running, ready: true, listening: [80], held: true, moved: true, generation: "2" });
    expect(await hub.waitFor("i", ({ moved }) => moved, soon())).toMatchObject({ ready: false, listening: [] });
    guest.say({ fact: "identified", uptimeMs: 2, hookCode: null });
    expect(await hub.waitFor("i", ({ held }) => !held, soon())).toMatchObject({ moved: false, ready: false });
    guest.say({ fact: "ready", uptimeMs: 3 });
    await hub.waitFor("i", ({ ready }) => ready, soon());
    expect(guest.told()).toEqual(["hello", "identify"]);
    hub.close();
  });
});
