import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { ApiError, type Client, type Instance, type Operation } from "@berth/api";
import { StartError } from "./berthd.ts";
import type { HelloImage } from "./hello-image.ts";

const name = "hello";
const guestPort = 8080;
const answerTimeoutMs = 60_000;

/** Builds the image unless it is there. */
export async function ensureHelloImage(client: Client, image: HelloImage): Promise<void> {
  const { items } = await client.listImages({ query: { reference: image.reference } });
  if (items.some((one) => one.state === "ready")) return;
  const { operation } = await client.buildImage({
    body: { reference: image.reference, source: { type: "directory", path: image.folder } },
  });
  await finish(client, operation);
}

/** Launches the instance, starts it when it is stopped, leaves it alone when it runs. */
export async function ensureHelloInstance(client: Client, image: HelloImage): Promise<Instance> {
  const existing = await find(client);
  if (existing?.operationId) await client.waitForOperation(existing.operationId);
  if (!existing) {
    const hostPort = (await isFree(guestPort)) ? guestPort : 0;
    const body = { image: image.reference, name, memoryMib: 128, ports: [{ guestPort, hostPort }] };
    await finish(client, (await client.createInstance({ body })).operation);
  } else if (!existing.status.ready) {
    await finish(client, (await client.startInstance({ params: { instance: name } })).operation);
  }
  return client.getInstance({ params: { instance: name } });
}

/** Waits until the instance's own web server answers through the published port; answers with its address. */
export async function awaitPage(instance: Instance): Promise<string> {
  const port = instance.status.ports.find((one) => one.guestPort === guestPort);
  if (!port)
    throw new StartError(
      `${name} has no published port ${guestPort}; npx berth rm --force ${name} lets the next start make it anew.`,
    );
  const url = `http://${port.hostAddress}:${port.hostPort}/`;
  const deadline = performance.now() + answerTimeoutMs;
  for (;;) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
    if (answer?.ok && (await answer.text()).includes("virtual machine")) return url;
    if (performance.now() > deadline)
      throw new StartError(`${name} runs, but ${url} does not answer. npx berth logs ${name} tells what it wrote.`);
    await delay(100);
  }
}

async function find(client: Client): Promise<Instance | undefined> {
  try {
    return await client.getInstance({ params: { instance: name } });
  } catch (error) {
    if (error instanceof ApiError && error.code === "not_found") return undefined;
    throw error;
  }
}

/** Tells each step as it ends. */
async function finish(client: Client, operation: Operation): Promise<void> {
  const told = new Set<string>();
  const ended = await client.waitForOperation(operation.id, {
    onProgress: ({ steps }) => {
      for (const step of steps) {
        if (step.status === "running" || told.has(step.name)) continue;
        told.add(step.name);
        const ms = Date.parse(step.endedAt ?? step.startedAt) - Date.parse(step.startedAt);
        console.log(`  ${step.status === "succeeded" ? "✓" : "✗"} ${step.name} ${(ms / 1000).toFixed(1)} s`);
      }
    },
  });
  if (ended.status === "succeeded") return;
  const { detail, hint } = ended.error ?? { detail: ended.status, hint: "" };
  throw new StartError([`${operation.type} ${ended.status}: ${detail}`, hint].filter(Boolean).join("\n"));
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
