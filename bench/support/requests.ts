import { Agent, request } from "node:http";
import { buffer } from "node:stream/consumers";

export interface Target {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One GET over a connection of `agent`; the body of a 200, else it rejects. */
export async function get({ url, headers }: Target, agent: Agent): Promise<Buffer> {
  const response = await new Promise<import("node:http").IncomingMessage>((resolve, reject) =>
    request(url, { agent, headers: { ...headers } }, resolve)
      .once("error", reject)
      .end(),
  );
  const body = await buffer(response);
  if (response.statusCode !== 200)
    throw new Error(`GET ${url} answered ${response.statusCode}: ${body.toString().slice(0, 300)}`);
  return body;
}

/** The same GET so many times over a few kept connections, as a dashboard or a script asks. */
export async function getOften(target: Target, count: number, connections = 4): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  try {
    let left = count;
    const client = async () => {
      while (left-- > 0) await get(target, agent);
    };
    await Promise.all(Array.from({ length: connections }, client));
  } finally {
    agent.destroy();
  }
}
