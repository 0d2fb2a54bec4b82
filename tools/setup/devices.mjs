import { constants } from "node:fs";
import { isThere } from "./programs.mjs";
import { SetupError } from "./progress.mjs";

const tun = "/dev/net/tun";

/**
 * As an ordinary user each VM has a network namespace of its own, with a way out made by this device; udev lets everybody open it. Root's VMs do without.
 * @param {string} command
 */
export function ensureDevices(command) {
  if (process.getuid?.() === 0 || isThere(tun, constants.R_OK | constants.W_OK)) return;
  throw new SetupError(
    [
      `npm ${command} joins VMs to the network by ${tun}, ${isThere(tun) ? "which this user may not open" : "which is not there"}. As root:`,
      `  modprobe tun; chmod 0666 ${tun}`,
    ].join("\n"),
  );
}
