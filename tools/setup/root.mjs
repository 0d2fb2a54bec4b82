import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The clone's own folder, wherever the command was called from. */
export const repositoryRoot = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** What the set-up brings in beside the system: Node, the guest kit. Never committed. */
export const toolsFolder = join(repositoryRoot, ".tools");
