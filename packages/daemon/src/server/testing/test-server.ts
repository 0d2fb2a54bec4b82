import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from "fastify";
import { makeToken } from "../../identity/tokens.ts";
import { createServer, type Tuning } from "../create-server.ts";
import { FakeServices } from "./fake-services.ts";

/** A server over fake services, with an image, a template, the instance `web` and an operation in it, and a token that opens everything. */
export function testServer(tuning: Partial<Tuning> = {}) {
  const services = new FakeServices();
  const token = makeToken();
  services.addToken(token);
  services.addUser({ name: "alice", admin: false, roles: { default: "operator" } });
  services.addProject("default");
  services.addProject("shop");
  const image = services.addImage("nginx");
  const instance = services.addInstance(
    {
      image: "nginx",
      name: "web",
      labels: { team: "a", tier: "front" },
      cpus: 1,
      memoryMib: 256,
      ports: [{ hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" }],
      env: { TZ: "UTC" },
      tty: false,
      restart: "no",
      stopTimeoutMs: 10_000,
      start: true,
      warm: "auto",
      autosuspend: null,
      snapshots: null,
    },
    image,
  );
  const template = services.addTemplate();
  const archive = services.addArchive(instance);
  const namedToken = services.addNamedToken({ name: "ci", role: "viewer", system: false }, "default");
  const pool = services.addPool({ name: "spare", image: "nginx", size: 2, cpus: 1, memoryMib: 512 });
  const operation = services.begin("instance.create", { kind: "instance", id: instance.id, name: instance.name });
  services.emit("instance.created", { phase: "pending", nested: { list: [1, "two", null] } });
  const app = createServer({ services, checkResponses: true, tuning: { requestsPerSecond: 0, ...tuning } });
  const authorization = `Bearer ${token}`;
  return {
    app,
    services,
    token,
    image,
    instance,
    template,
    archive,
    pool,
    namedToken,
    operation,
    /** Sends a request with the token. */
    send: (options: InjectOptions): Promise<LightMyRequestResponse> =>
      app.inject({ ...options, headers: { host: "localhost", authorization, ...options.headers } }),
  };
}

/** Listens on a free loopback port and says where. */
export async function listen(app: FastifyInstance): Promise<string> {
  return app.listen({ host: "127.0.0.1", port: 0 });
}
