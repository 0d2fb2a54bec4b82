import { readFile } from "node:fs/promises";
import { UsageError } from "./errors.ts";

type Variables = Readonly<Record<string, string | undefined>>;

/** Docker's -e and --env-file: `K=V`, or `K` for the client's own value, left out when it has none. What stands later wins, -e over files. */
export async function readEnvironment(
  entries: readonly string[],
  files: readonly string[],
  own: Variables,
): Promise<Record<string, string>> {
  const lines = (await Promise.all(files.map(readEnvironmentFile))).flat();
  const environment: Record<string, string> = {};
  for (const entry of [...lines, ...entries]) {
    const at = entry.indexOf("=");
    const name = at < 0 ? entry : entry.slice(0, at);
    const value = at < 0 ? own[name] : entry.slice(at + 1);
    if (name === "") throw new UsageError(`An environment variable needs a name: -e K=V, not "${entry}".`);
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}

/** A file of `K=V` lines; empty lines and those that begin with # say nothing. */
async function readEnvironmentFile(path: string): Promise<string[]> {
  const content = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`The environment file ${path} cannot be read: ${error.code ?? error.message}.`);
  });
  return content
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line !== "" && !line.startsWith("#"));
}
