import { once } from "node:events";
import { posix } from "node:path";
import type { ServerChannel } from "ssh2";
import tar from "tar-stream";
import { programName } from "./machine.ts";
import type { World } from "./world.ts";

const notFound = 44;
const folders = ["/", "/etc", "/root", "/srv", "/tmp"];

interface Request {
  readonly action: "exec" | "readTar" | "writeTar" | "stage" | "staged" | "gate";
  readonly id?: string;
  readonly argv?: readonly string[];
  readonly env?: readonly string[];
  readonly path?: string;
}

/** Requests that were too long for an SSH command, waiting to be asked for by their id. */
const staged = new Map<string, string>();

/** Does what the guest's login shell does with a request, and answers its exit code. */
export async function runRequest(
  world: World,
  id: string,
  command: string,
  channel: ServerChannel,
  signal: AbortSignal,
): Promise<number> {
  let request = parse(command);
  if (request?.action === "stage") {
    staged.set(request.id ?? "", (await readAll(channel)).toString("utf8"));
    return 0;
  }
  if (request?.action === "staged") {
    const text = staged.get(request.id ?? "");
    staged.delete(request.id ?? "");
    request = text === undefined ? undefined : parse(text);
  }
  if (request?.action === "exec") return runProgram(world, id, request, channel, signal);
  if (request?.action === "readTar") return readTar(world, id, request.path ?? "", channel);
  if (request?.action === "writeTar") return writeTar(world, id, request.path ?? "", channel);
  if (request?.action === "gate") return keepGate(channel);
  return complain(channel, 126, "not a request");
}

/** This server takes no harm from sessions that end while another is opened, so the gate is closed whenever it is asked to be. */
async function keepGate(channel: ServerChannel): Promise<number> {
  for await (const chunk of channel) for (const word of String(chunk)) if (word === "c") channel.write("c");
  return 0;
}

async function runProgram(
  world: World,
  id: string,
  request: Request,
  channel: ServerChannel,
  signal: AbortSignal,
): Promise<number> {
  const argv = request.argv ?? [];
  const rest = argv.slice(1);
  switch (programName(argv)) {
    case "true":
      return 0;
    case "false":
      return 1;
    case "echo":
      channel.write(`${rest.join(" ")}\n`);
      return 0;
    case "env": {
      const image = (await world.read(id))?.run?.config?.env ?? [];
      for (const entry of [...image, ...(request.env ?? [])]) channel.write(`${entry}\n`);
      return 0;
    }
    case "cat":
      for await (const chunk of channel) if (!channel.write(chunk)) await once(channel, "drain", { signal });
      return 0;
    case "sleep":
      channel.resume();
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      return 143;
    case "sh": {
      const exit = /^exit (\d{1,3})$/.exec(rest[1] ?? "");
      if (rest[0] === "-c" && exit) return Number(exit[1]);
      return complain(channel, 2, "the fake sh knows only: -c 'exit N'");
    }
    default:
      return complain(channel, 127, `exec: "${argv[0]}": executable file not found in $PATH`);
  }
}

async function readTar(world: World, id: string, asked: string, channel: ServerChannel): Promise<number> {
  const path = posix.normalize(asked).replace(/(.)\/$/, "$1");
  const files = await world.readFiles(id);
  const isFolder =
    folders.includes(path) || Object.keys(files).some((file) => file.startsWith(`${path.replace(/\/$/, "")}/`));
  const file = files[path];
  if (!file && !isFolder) return complain(channel, notFound, `${path}: No such file or directory`);
  const pack = tar.pack();
  const sent = pipe(pack as unknown as AsyncIterable<Uint8Array>, channel);
  const name = posix.basename(path) || ".";
  if (file) {
    pack.entry({ name, mode: file.mode }, Buffer.from(file.content, "base64"));
  } else {
    pack.entry({ name: `${name}/`, type: "directory", mode: 0o755 });
    for (const [inner, { mode, content }] of Object.entries(files)) {
      const below = posix.relative(path, inner);
      if (!below.startsWith("..")) pack.entry({ name: `${name}/${below}`, mode }, Buffer.from(content, "base64"));
    }
  }
  pack.finalize();
  await sent;
  return 0;
}

async function writeTar(world: World, id: string, asked: string, channel: ServerChannel): Promise<number> {
  const path = posix.normalize(asked);
  const files = await world.readFiles(id);
  const isFolder =
    folders.includes(path) || Object.keys(files).some((file) => file.startsWith(`${path.replace(/\/$/, "")}/`));
  if (!isFolder) {
    channel.resume();
    return complain(channel, notFound, `${path}: No such file or directory`);
  }
  const added: Record<string, { mode: number; content: string }> = {};
  const extract = tar.extract();
  channel.pipe(extract);
  for await (const entry of extract) {
    const content = await readAll(entry);
    if (entry.header.type !== "file") continue;
    added[posix.join(path, entry.header.name)] = {
      mode: entry.header.mode ?? 0o644,
      content: content.toString("base64"),
    };
  }
  await world.writeFiles(id, { ...files, ...added });
  return 0;
}

async function pipe(from: AsyncIterable<Uint8Array>, to: ServerChannel): Promise<void> {
  for await (const chunk of from) if (!to.write(chunk)) await once(to, "drain");
}

async function readAll(from: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of from) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

function complain(channel: ServerChannel, code: number, reason: string): number {
  channel.stderr.write(`${reason}\n`);
  return code;
}

function parse(text: string): Request | undefined {
  try {
    return JSON.parse(text) as Request;
  } catch {
    return undefined;
  }
}
