import { BerthError } from "@berth/api";
import type { PortForward } from "../../core/descriptions.ts";
import type { CreateInputs } from "../driver.ts";
import { netdevId } from "./command-line.ts";
import type { Qmp } from "./qmp.ts";
import { openConnections, parseUsernet, portChanges, publishedPorts } from "./usernet.ts";

/** Runs one of the commands that QEMU has for people, and gives its words. */
async function say(qmp: Qmp, line: string): Promise<string> {
  return String(await qmp.execute("human-monitor-command", { "command-line": line })).trim();
}

/** How many connections to published ports are open. */
export async function countConnections(qmp: Qmp): Promise<number> {
  return openConnections(parseUsernet(await say(qmp, "info usernet")));
}

/** Makes the running machine publish exactly these ports, or those it did before. */
export async function publish(qmp: Qmp, inputs: CreateInputs, forwards: readonly PortForward[]): Promise<void> {
  if (inputs.launcher.length > 0)
    throw new BerthError(
      "unsupported_by_driver",
      "berthd is not root, so the machine's ports are fixed while it runs: they change at its next start.",
    );
  if (inputs.nics.length !== 1)
    throw new BerthError("unsupported_by_driver", "Only the ports of a machine with one interface can be changed.");
  const present = publishedPorts(parseUsernet(await say(qmp, "info usernet")));
  const { add, remove, replace } = portChanges(present, forwards);
  const added: PortForward[] = [];
  try {
    for (const forward of add) {
      await addForward(qmp, forward);
      added.push(forward);
    }
  } catch (error) {
    for (const forward of added) await removeForward(qmp, forward);
    throw error;
  }
  for (const forward of [...remove, ...replace]) await removeForward(qmp, forward);
  for (const forward of replace) await addForward(qmp, forward);
}

/** Without the guest's own address QEMU takes the one it gives out first, which is the guest's. */
async function addForward(qmp: Qmp, { protocol, hostAddress, hostPort, guestPort }: PortForward): Promise<void> {
  const words = await say(qmp, `hostfwd_add ${netdevId(0)} ${protocol}:${hostAddress}:${hostPort}-:${guestPort}`);
  if (words === "") return;
  if (hostPort < 1024)
    throw new BerthError(
      "unsupported_by_driver",
      `Port ${hostPort} is below 1024 or in use: a machine is given such a port when it starts.`,
    );
  throw new BerthError("port_taken", `Port ${hostPort} on ${hostAddress} is in use on this node.`);
}

async function removeForward(qmp: Qmp, { protocol, hostAddress, hostPort }: PortForward): Promise<void> {
  const words = await say(qmp, `hostfwd_remove ${netdevId(0)} ${protocol}:${hostAddress}:${hostPort}`);
  if (!/removed$/.test(words)) throw new Error(`QEMU did not let go of port ${hostPort}: ${words}`);
}
