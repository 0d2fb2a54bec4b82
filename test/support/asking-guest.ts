import type { KitDescription } from "../../packages/daemon/src/core/descriptions.ts";
import type { Driver, Handle } from "../../packages/daemon/src/drivers/driver.ts";
import type { Host } from "../../packages/daemon/src/host/host.ts";
import { tinyGuest } from "./tiny-guest.ts";

/** A guest that runs what it is asked on its control port, and answers with the output. Its network is up as user-mode networking wants it. */
export function askableGuest(host: Host, folder: string, greeting = "here"): Promise<KitDescription> {
  const script = `
ifconfig lo up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
route add default gw 10.0.2.2
echo "${greeting}"
exec 3<> /dev/hvc1
while read -r number command <&3; do say "answer $number $(eval "$command" | tr '\\n' ' ')"; done
`;
  return tinyGuest(host, folder, script);
}

let asked = 0;

/** Has the guest run a line of shell; resolves with what that wrote, on one line. What comes before the guest listens is lost, so it is asked until it answers. */
export async function askGuest(driver: Driver, handle: Handle, command: string, patienceMs = 60_000): Promise<string> {
  const control = await driver.openPort?.(handle, "control", AbortSignal.timeout(patienceMs));
  if (!control) throw new Error("The driver leads to no guests");
  const number = `${process.pid}.${++asked}`;
  const ask = () => control.write(`\n${number} ${command}\n`);
  ask();
  const asking = setInterval(ask, 1_000);
  const patience = setTimeout(() => control.destroy(new Error("The guest does not answer")), patienceMs);
  try {
    let heard = "";
    for await (const chunk of control) {
      heard += chunk;
      const answer = new RegExp(`answer ${number} (.*?)\\s*\n`).exec(heard);
      if (answer) return answer[1] ?? "";
    }
  } finally {
    clearInterval(asking);
    clearTimeout(patience);
  }
  throw new Error("The guest's control port was closed");
}
