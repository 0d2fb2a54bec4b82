import { spawn } from "node:child_process";
import { once } from "node:events";
import { access } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Context, command, yes } from "../../command.ts";
import { Exit, UserError } from "../../errors.ts";
import { follow, forEach } from "../../follow.ts";
import { findLocalBerthd } from "../../local-berthd.ts";
import { listAll } from "../../pages.ts";
import { dataFolder } from "../../settings.ts";

const berthd = fileURLToPath(new URL("../../../../daemon/bin/berthd.js", import.meta.url));

export default command<{ yes?: boolean }>({
  description:
    "Removes everything Berth made on this machine: the instances with their disks, the images, the rules it set and the data folder. Deletes the instances through " +
    "berthd where it is up; berthd purge does the rest, and stops berthd first.",
  parameters: { flags: { yes: yes("Do not ask") }, aliases: { y: "yes" } },
  async run(context, flags) {
    const folder = dataFolder(context.outside);
    if (!(await exists(folder)))
      return context.print({ purged: false, folder }, () => `There is nothing at ${folder}.\n`);
    await context.out.confirm(
      `This removes all instances, their disks and everything else in ${folder}, for ever.`,
      "purge",
      flags.yes,
    );
    await deleteInstances(context, folder);
    await removeTheRest(context, folder);
    context.print({ purged: true, folder }, () => "All that Berth made on this machine is gone.\n");
  },
});

/**
 * Deletes them while berthd can still do it in order; where it is not up, `berthd purge` does it by itself. Only ever asks the daemon of this data folder, whatever
 * BERTH_URL says.
 */
async function deleteInstances(context: Context, folder: string): Promise<void> {
  const berthd = findLocalBerthd(folder);
  if (!berthd?.url) return;
  const { url, token } = berthd;
  const local = new Context(context.outside, { url, token: () => token(url) });
  const client = await local.client();
  const instances = await listAll((page) => client.listInstances({ query: page })).catch((error: Error) => {
    if (error.name === "UnreachableError") return [];
    throw error;
  });
  await forEach(local, instances, async ({ id }) => {
    const { operation } = await client.deleteInstance(
      { params: { instance: id }, query: { force: true } },
      { idempotencyKey: crypto.randomUUID() },
    );
    await follow(local, operation);
  });
}

async function removeTheRest(context: Context, folder: string): Promise<void> {
  if (!(await exists(berthd)))
    throw new UserError(
      "berthd is not beside this client.",
      `On the machine that has it: berthd purge, with BERTH_DATA_DIR=${folder}.`,
    );
  const child = spawn(process.execPath, [berthd, "purge"], {
    env: { ...context.outside.env, BERTH_DATA_DIR: folder },
    stdio: ["ignore", "ignore", "pipe"],
  });
  child.stderr.on("data", (chunk: Buffer) => context.out.say(chunk.toString("utf8").trimEnd()));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Exit(code ?? 1);
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
