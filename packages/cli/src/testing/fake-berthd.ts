import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import {
  type Archive,
  execFrames,
  type Image,
  type Instance,
  type Node,
  type Operation,
  type Pool,
  type Project,
  type ProjectQuota,
  type Route,
  type RouteName,
  routes,
  type Snapshot,
  type Template,
  type Token,
  type User,
} from "@berth/api";
import { type WebSocket, WebSocketServer } from "ws";
import { exampleNode } from "../../../api/src/testing/examples.ts";

export const ids = {
  instance: "i-00000000000000001",
  image: "img-00000000000000001",
  archive: "arc-00000000000000001",
  operation: "op-00000000000000001",
  pool: "pool-00000000000000001",
  template: "tpl-00000000000000001",
  node: "n-00000000000000001",
  snapshot: "snap-00000000000000001",
};
const at = "2026-01-01T00:00:00.000Z";

export const operation: Operation = {
  id: ids.operation,
  type: "instance.create",
  project: "default",
  status: "succeeded",
  target: { kind: "instance", id: ids.instance, name: "web" },
  steps: [
    {
      name: "create-disks",
      status: "succeeded",
      startedAt: at,
      endedAt: "2026-01-01T00:00:01.500Z",
      percent: 100,
      detail: "root",
    },
  ],
  reason: "",
  error: null,
  attempt: 1,
  createdAt: at,
  startedAt: at,
  endedAt: "2026-01-01T00:00:02.000Z",
};

export const instance: Instance = {
  id: ids.instance,
  name: "web",
  project: "default",
  labels: { team: "a" },
  imageId: ids.image,
  image: "docker.io/library/nginx:latest",
  origin: null,
  location: "node1/fake",
  nodeId: ids.node,
  generation: 1,
  spec: {
    cpus: 1,
    memoryMib: 512,
    disks: [{ name: "root", sizeMib: 1024 }],
    interfaces: [{ name: "eth0", network: "user" }],
    ports: [{ hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" }],
    env: { A: "b" },
    entrypoint: null,
    command: null,
    tty: false,
    stopTimeoutMs: 10_000,
    restart: "no",
    power: "running",
    warm: "auto",
    autosuspend: null,
    snapshots: null,
    restartGeneration: 0,
  },
  status: {
    phase: "running",
    ready: true,
    health: "healthy",
    reason: "",
    observedAt: at,
    exitCode: null,
    startedAt: at,
    memoryBytes: null,
    start: null,
    restartGeneration: 0,
    ports: [{ hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" }],
    restarts: { count: 0, delayMs: 0, nextAt: null },
    snapshots: null,
    pending: [],
  },
  operationId: null,
  createdAt: at,
  updatedAt: at,
};

export const image: Image = {
  id: ids.image,
  project: "default",
  references: ["docker.io/library/nginx:latest"],
  source: { type: "registry", reference: "docker.io/library/nginx:latest" },
  state: "ready",
  reason: "",
  contentDigest: `sha256:${"0".repeat(64)}`,
  kind: "rootfs",
  os: "linux",
  architecture: "amd64",
  firmware: "kernel",
  sizeBytes: 12_345_678,
  startConfig: null,
  operationId: ids.operation,
  createdAt: at,
};

export const template: Template = {
  id: ids.template,
  project: "default",
  state: "ready",
  reason: "",
  image: "docker.io/library/nginx:latest",
  contentDigest: `sha256:${"0".repeat(64)}`,
  cpus: 1,
  memoryMib: 512,
  disks: 1,
  interfaces: 1,
  build: "fake 1, disk format 1",
  app: null,
  location: "node1/fake",
  nodeId: ids.node,
  sizeBytes: 72_345_678,
  uses: 3,
  lastUsedAt: at,
  operationId: ids.operation,
  createdAt: at,
};

export const archive: Archive = {
  id: ids.archive,
  project: "default",
  name: "web.berth",
  source: { type: "export", instance: { id: ids.instance, name: "web" }, snapshot: null, environment: true },
  state: "ready",
  sizeBytes: 1024,
  receivedBytes: 1024,
  beginning: "0".repeat(64),
  operationId: null,
  createdAt: at,
  expiresAt: "2026-01-02T00:00:00.000Z",
};

export const snapshot: Snapshot = {
  id: ids.snapshot,
  name: "before",
  project: "default",
  instanceId: ids.instance,
  instanceName: "web",
  automatic: false,
  kind: "disk",
  consistency: "stopped",
  state: "ready",
  imageId: ids.image,
  image: image.references[0] ?? "",
  location: "node1/fake",
  nodeId: ids.node,
  spec: instance.spec,
  disks: [{ name: "root", sizeBytes: 2 ** 30 }],
  memoryBytes: 0,
  ownBytes: 0,
  sharedBytes: 1_234_567,
  verification: { verdict: "sound", reason: "", at },
  operationId: null,
  createdAt: at,
};

export const pool: Pool = {
  id: ids.pool,
  name: "spare",
  project: "default",
  image: "docker.io/library/nginx:latest",
  location: "node1/fake",
  nodeId: ids.node,
  cpus: 1,
  memoryMib: 512,
  size: 5,
  state: "active",
  ready: 3,
  filling: 2,
  machines: [{ id: "i-00000000000000009", state: "ready" }],
  uses: 7,
  reason: "",
  memoryBytes: 123_456_789,
  createdAt: at,
};

const project: Project = { id: "p-00000000000000001", name: "shop", createdAt: at };

const quota: ProjectQuota = {
  limits: { instances: 10, cpus: null, memoryMib: 16_384, diskMib: null, ports: null, images: null },
  used: { instances: 2, cpus: 2, memoryMib: 1024, diskMib: 2048, ports: 1, images: 1 },
};

const token: Token = {
  id: "t-00000000000000001",
  name: "ci",
  project: "shop",
  role: "operator",
  scopes: ["instance", "image:read"],
  prefix: "berth_Ab12",
  createdAt: at,
  expiresAt: "2100-01-01T00:00:00.000Z",
  lastUsedAt: null,
};

const user: User = {
  id: "u-00000000000000001",
  name: "alice",
  admin: false,
  roles: { shop: "operator" },
  hasPassword: true,
  createdAt: at,
  lastLoginAt: null,
};
const reset = { user, code: "berthr_code", expiresAt: "2100-01-01T00:00:00.000Z" };

export const node: Node = {
  ...exampleNode,
  id: ids.node,
  memoryMib: 24_576,
  diskFreeMib: 10_240,
  accelerator: { kind: "tcg", reason: "no /dev/kvm", probedAt: at },
  checks: [{ name: "mke2fs", ok: true, detail: "1.47.0", hint: "" }],
  startedAt: at,
};

/** A request as it arrived. */
export interface Call {
  readonly route: RouteName;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
  readonly json: unknown;
}

/** Answers one route: an object is JSON, a text or bytes a body, a list of objects a stream of events. Throws a Refusal for a problem. */
export type Handler = (call: Call) => unknown;
export type SocketHandler = (socket: WebSocket, first: unknown) => void;

export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, detail: string) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** Answers bytes with another status than the route's, and cuts the connection behind them once `arrived` resolves. */
export class Bytes {
  readonly body: Uint8Array;
  readonly status: number;
  readonly arrived: (() => Promise<unknown>) | undefined;
  constructor(body: Uint8Array, status: number, arrived?: () => Promise<unknown>) {
    this.body = body;
    this.status = status;
    this.arrived = arrived;
  }
}

/** Answers a stream of server-sent events. */
export class Events {
  readonly messages: readonly object[];
  constructor(messages: readonly object[]) {
    this.messages = messages;
  }
}

const page = (items: readonly object[]) => ({ items, nextCursor: null });
const changed = () => ({ instance, operation });

const defaults: Partial<Record<RouteName, Handler>> = {
  listInstances: () => page([instance]),
  createInstance: changed,
  getInstance: () => instance,
  changeInstance: () => ({ ...changed(), effects: [{ field: "memoryMib", takes: "restart" }] }),
  forkInstance: () => ({ ...changed(), children: [instance] }),
  startInstance: changed,
  stopInstance: changed,
  suspendInstance: changed,
  restartInstance: changed,
  deleteInstance: changed,
  instanceLogs: () => "hello\nthere\n",
  listImages: () => page([image]),
  pullImage: () => ({ image, operation }),
  buildImage: () => ({ image, operation }),
  getImage: () => image,
  deleteImage: () => ({ image, operation }),
  listTemplates: () => page([template]),
  getTemplate: () => template,
  deleteTemplate: () => ({ template, operation }),
  pruneTemplates: () => ({ items: [] }),
  exportInstance: () => ({ archive, operation }),
  exportSnapshot: () => ({ archive, operation }),
  listArchives: () => page([archive]),
  getArchive: () => archive,
  deleteArchive: () => ({ archive, operation }),
  listSnapshots: () => page([snapshot]),
  createSnapshot: () => ({ snapshot, operation }),
  getSnapshot: () => snapshot,
  deleteSnapshot: () => ({ snapshot, operation }),
  promoteSnapshot: () => ({ image, operation }),
  verifySnapshot: () => ({ snapshot, operation }),
  rebuildInstance: () => ({ instance, operation, kept: { ...snapshot, name: "web-before-rebuild" } }),
  restoreSnapshot: () => ({ instance, operation, kept: { ...snapshot, name: "web-before-restore" } }),
  launchSnapshot: changed,
  listPools: () => page([]),
  createPool: () => pool,
  getPool: () => pool,
  changePool: () => pool,
  deletePool: () => ({ pool, operation }),
  listProjects: () => page([project]),
  createProject: () => project,
  getProject: () => project,
  deleteProject: () => project,
  getQuota: () => quota,
  changeQuota: () => quota,
  listTokens: () => page([token]),
  createToken: () => ({ token, secret: "berth_secret" }),
  getToken: () => token,
  deleteToken: () => token,
  listUsers: () => page([user]),
  createUser: () => reset,
  getUser: () => user,
  changeUser: () => user,
  resetUser: () => reset,
  deleteUser: () => user,
  whoAmI: () => ({
    kind: "token",
    id: ids.node,
    name: "ci",
    admin: false,
    roles: { shop: "viewer" },
    project: "shop",
    scopes: null,
    expiresAt: null,
    csrfToken: null,
  }),
  listOperations: () => page([operation]),
  getOperation: () => operation,
  watchOperation: () => new Events([operation]),
  cancelOperation: () => ({ ...operation, status: "cancelling" }),
  operationLog: () => "STEP 1\nSTEP 2\n",
  listNodes: () => page([node]),
  getNode: () => node,
};

/** An HTTP server that answers the routes of the API with made-up objects, for tests of the client alone. */
export class FakeBerthd {
  readonly calls: Call[] = [];
  readonly #handlers: Partial<Record<RouteName, Handler>>;
  readonly #socket: SocketHandler | undefined;
  readonly #server: Server;

  private constructor(handlers: Partial<Record<RouteName, Handler>>, socket: SocketHandler | undefined) {
    this.#handlers = { ...defaults, ...handlers };
    this.#socket = socket;
    this.#server = createServer((request, response) => void this.#answer(request, response));
    const sockets = new WebSocketServer({ noServer: true });
    this.#server.on("upgrade", (request, stream, head) => {
      sockets.handleUpgrade(request, stream, head, (connection) => {
        if (!request.url?.includes("/exec")) return this.#socket?.(connection, undefined);
        connection.once("message", (data) => this.#socket?.(connection, JSON.parse(String(data))));
      });
    });
  }

  static async start(handlers: Partial<Record<RouteName, Handler>> = {}, socket?: SocketHandler): Promise<FakeBerthd> {
    const berthd = new FakeBerthd(handlers, socket);
    await new Promise<void>((resolve) => berthd.#server.listen(0, "127.0.0.1", resolve));
    return berthd;
  }

  get url(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** The calls of one route, in order. */
  callsOf(route: RouteName): Call[] {
    return this.calls.filter((call) => call.route === route);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "", this.url);
    const found = findRoute(request.method ?? "", url.pathname);
    const body = Buffer.concat(await request.toArray());
    try {
      const handler = found && this.#handlers[found.route];
      if (!found || !handler) throw new Refusal(404, "not_found", `Nothing answers ${request.method} ${url.pathname}.`);
      const json =
        body.length > 0 && request.headers["content-type"] === "application/json"
          ? JSON.parse(String(body))
          : undefined;
      const call: Call = { ...found, query: url.searchParams, headers: request.headers, body, json };
      this.calls.push(call);
      const answer = handler(call);
      if (answer instanceof Events) {
        response.writeHead(200, { "content-type": "text/event-stream" });
        for (const message of answer.messages) response.write(`data: ${JSON.stringify(message)}\n\n`);
        response.end();
        return;
      }
      if (answer instanceof Bytes) {
        response.writeHead(answer.status, { "content-type": "application/octet-stream" });
        if (!answer.arrived) return void response.end(answer.body);
        response.write(answer.body);
        await answer.arrived();
        return void response.destroy();
      }
      const status = (routes[found.route] as Route).status;
      if (answer === undefined) response.writeHead(status).end();
      else if (typeof answer === "string" || answer instanceof Uint8Array) response.writeHead(status).end(answer);
      else response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
    } catch (error) {
      const { status = 500, code = "internal", message } = error as Refusal;
      const problem = { type: "", title: `The ${code} title`, status, code, detail: message, hint: "What to do next." };
      response.writeHead(status, { "content-type": "application/problem+json" }).end(JSON.stringify(problem));
    }
  }
}

function findRoute(method: string, path: string): { route: RouteName; params: Record<string, string> } | undefined {
  for (const [name, route] of Object.entries<Route>(routes)) {
    if (route.method !== method) continue;
    const match = new RegExp(`^${route.path.replace(/:(\w+)/g, "(?<$1>[^/]+)")}$`).exec(path);
    if (match) return { route: name as RouteName, params: { ...match.groups } };
  }
  return undefined;
}

/** A frame of an exec or console connection. */
export function frame(stream: keyof typeof execFrames, data: string | Buffer): Buffer {
  return Buffer.concat([Buffer.from([execFrames[stream]]), Buffer.from(data)]);
}
