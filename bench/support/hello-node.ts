import { readFileSync } from "node:fs";
import { Agent } from "node:http";
import { join } from "node:path";
import type { Client, CreateInstanceInput, StartConfig } from "@berth/api";
import { machinePaths } from "../../packages/daemon/src/drivers/qemu/handle.ts";
import { startBerthd } from "../../test/support/berthd.ts";
import { runPurge } from "../../test/support/purge.ts";
import { prepareHelloImage } from "../../tools/start/hello-image.ts";
import { finish } from "./fake-instances.ts";
import { get } from "./requests.ts";

/** The port that the web server of the hello image listens on. */
export const webPort = 8080;

/** Asks the web server of an instance, published at a port of the loopback address, for a file: its page is made by programs, which take longer than the server. */
export async function askWebServer(hostPort: number): Promise<void> {
  await get({ url: `http://127.0.0.1:${hostPort}/icon.svg` }, new Agent());
}

/** A berthd with real guests and the image of `npm start`, a web server of one file. */
export interface HelloNode extends AsyncDisposable {
  readonly client: Client;
  readonly dataDir: string;
  /** The image's reference. */
  readonly image: string;
  readonly start: StartConfig;
}

/** Starts it in a folder of its own and builds the image. It goes with all its instances. */
export async function startHelloNode(scratch: string, say: (line: string) => void): Promise<HelloNode> {
  const dataDir = join(scratch, "data");
  const { client, stop } = await startBerthd({ dataDir, env: { BERTH_LOG_LEVEL: "warn" } });
  const node = {
    client,
    dataDir,
    async [Symbol.asyncDispose]() {
      await stop();
      // Its rules, and an instance that a failure left running, must not outlive it.
      await runPurge(dataDir);
    },
  };
  try {
    say("building the image");
    const { folder, reference } = prepareHelloImage();
    const body = { reference, source: { type: "directory", path: folder } } as const;
    const { image, operation } = await client.buildImage({ body });
    await finish(client, operation);
    const { startConfig } = await client.getImage({ params: { image: image.id } });
    if (!startConfig) throw new Error("the image has no start configuration");
    return { ...node, image: reference, start: startConfig };
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
}

/** What a launch took, in milliseconds from the request. */
export interface Launch {
  readonly id: string;
  /** When it was requested, in milliseconds since the Unix epoch. */
  readonly at: number;
  /** Until the API says that its machine runs: what it goes on from is in place, and its processors were let go. */
  readonly running: number;
  readonly mode: string;
}

/** Requests an instance and waits until it is ready. */
export async function launch(node: HelloNode, wishes: Partial<CreateInstanceInput> = {}): Promise<Launch> {
  const { launched } = await request(node, wishes);
  return describe(node, launched);
}

/** As soon as it is ready, before anything else is asked. */
async function request({ client, image }: HelloNode, wishes: Partial<CreateInstanceInput>) {
  const at = Date.now();
  const before = performance.now();
  const { instance, operation } = await client.createInstance({ body: { image, ...wishes } });
  const { ended, running } = await untilRunning(client, operation.id, before);
  if (ended.status !== "succeeded") throw new Error(`a launch ${ended.status}: ${ended.error?.detail}`);
  return { before, launched: { id: instance.id, at, running } };
}

/** Waits for an operation that starts a machine; `running` is how many milliseconds after `before` the API said that it runs. */
export async function untilRunning(client: Client, operation: string, before: number) {
  let running = Number.NaN;
  const ended = await client.waitForOperation(operation, {
    onProgress: ({ steps }) => {
      const isOn = steps.some(({ name, status }) => name === "start-machine" && status === "succeeded");
      if (isOn && Number.isNaN(running)) running = performance.now() - before;
    },
  });
  return { ended, running };
}

async function describe({ client }: HelloNode, launched: Omit<Launch, "mode">): Promise<Launch> {
  const { status } = await client.getInstance({ params: { instance: launched.id } });
  return { ...launched, mode: status.start?.mode ?? "" };
}

/** Milliseconds from the request of an instance to the stamp of what its guest said first since, on its control port. */
export function firstWord({ dataDir }: HelloNode, { id, at }: Pick<Launch, "id" | "at">): number {
  const { vm, logs } = machinePaths(join(dataDir, "instances"), id);
  const stamps = readFileSync(join(vm, logs.control, "current"), "utf8")
    .split("\n")
    // s6-log's stamp, in UTC.
    .map((line) => Date.parse(`${line.slice(0, 23).replace(" ", "T")}Z`));
  const first = stamps.find((stamp) => stamp >= at);
  if (first === undefined) throw new Error(`the guest of ${id} said nothing`);
  return first - at;
}

/** Milliseconds from the request of an instance until its web server, published at a free port of the loopback address, has answered. */
export async function answerTime(
  node: HelloNode,
  hostPort: number,
  wishes: Partial<CreateInstanceInput> = {},
): Promise<Launch & { readonly answered: number }> {
  // It is ready once the port is listened on in the guest.
  const { before, launched } = await request(node, { ports: [{ hostPort, guestPort: webPort }], ...wishes });
  await askWebServer(hostPort);
  const answered = performance.now() - before;
  return { ...(await describe(node, launched)), answered };
}

/** Deletes an instance, however it is. */
export async function remove({ client }: HelloNode, id: string): Promise<void> {
  const answer = await client.deleteInstance({ params: { instance: id }, query: { force: true } });
  await finish(client, answer.operation);
}

/** Runs a program in an instance as root; what it wrote to its standard output. */
export async function execIn({ client }: HelloNode, id: string, ...command: readonly string[]): Promise<string> {
  const session = client.exec(id, { command: [...command], user: "0" });
  const chunks: Uint8Array[] = [];
  for await (const { stream, data } of session.output) if (stream === "stdout") chunks.push(data);
  const code = await session.exit;
  if (code !== 0) throw new Error(`${command[0]} in ${id} ended with exit code ${code}`);
  return Buffer.concat(chunks).toString();
}
