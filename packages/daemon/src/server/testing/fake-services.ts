import { Duplex, PassThrough, Readable } from "node:stream";
import {
  type Archive,
  BerthError,
  type CreateInstance,
  type CreatePool,
  type CreateToken,
  type CreateUser,
  type Event,
  type EventGap,
  type Image,
  type Instance,
  isFinal,
  type Operation,
  type Pool,
  type Project,
  type Role,
  type Template,
  type Token,
  type User,
} from "@berth/api";
import { exampleNode, exampleStartConfig } from "../../../../api/src/testing/examples.ts";
import { beginChange, effectsOf, wishesOf, withWishes } from "../../core/change-instance.ts";
import { changedLimits } from "../../core/changed-limits.ts";
import { specOf } from "../../core/new-instance.ts";
import type { Caller } from "../../identity/authorize.ts";
import { hashToken, makeToken } from "../../identity/tokens.ts";
import type { ChangeOptions, ExecSession, Page, PageRequest, Scope, Services } from "../services.ts";
import { fakeSnapshots } from "./fake-snapshots.ts";

const at = "2026-11-20T23:00:00.000Z";

/** Ids in order, of the right shape. */
function idMaker(prefix: string): () => string {
  let count = 0;
  return () => {
    count += 1;
    return `${prefix}-${count.toString(16).padStart(17, "0")}`;
  };
}

function refuseLogin(): never {
  throw new BerthError("unauthenticated", "Nobody logs in here.");
}

/** The daemon's services in memory, for tests of the server: real enough to be talked to, with nothing behind them. Operations end when told to. */
export class FakeServices implements Services {
  readonly callers = new Map<string, Caller>();
  /** Who is let in with an access token, by that. */
  readonly accessTokens = new Map<string, Caller>();
  readonly all = {
    instances: new Map<string, Instance>(),
    images: new Map<string, Image>(),
    templates: new Map<string, Template>(),
    archives: new Map<string, Archive>(),
    pools: new Map<string, Pool>(),
    tokens: new Map<string, Token>(),
    projects: new Map<string, Project>(),
    users: new Map<string, User>(),
    operations: new Map<string, Operation>(),
    events: [] as Event[],
    /** The number of the newest event that is not kept any more. */
    forgotten: 0,
    nodes: [exampleNode],
  };
  readonly keys = new Map<string, { hash: string; answer: () => unknown }>();
  /** What the last calls were given, newest last. */
  readonly calls: { name: string; scope?: Scope; options?: unknown }[] = [];
  readonly programs: FakeSession[] = [];
  readonly tars: Buffer[] = [];
  /** Whether operations end as soon as they begin. */
  instant = true;
  /** What `logs` gives. */
  log = (): Readable => Readable.from(["first line\n", "second line\n"]);
  runProgram: (session: FakeSession) => void = echoProgram;

  readonly #nextInstance = idMaker("i");
  readonly #nextImage = idMaker("img");
  readonly #nextTemplate = idMaker("tpl");
  readonly #nextArchive = idMaker("arc");
  readonly #nextPool = idMaker("pool");
  readonly #nextToken = idMaker("t");
  readonly #nextProject = idMaker("p");
  readonly #nextUser = idMaker("u");
  readonly #nextOperation = idMaker("op");
  #changed = Promise.withResolvers<void>();

  /** Lets a token in: with a role in one project, else as who administers the whole system. */
  addToken(token: string, { project, role = "admin" }: { project?: string; role?: Role } = {}): void {
    const caller: Caller = {
      id: `t-${this.callers.size + 1}`,
      name: "test",
      session: null,
      admin: project === undefined,
      roles: new Map(project === undefined ? [] : [[project, role]]),
      project: project ?? null,
      scopes: null,
      expiresAt: null,
    };
    this.callers.set(hashToken(token), caller);
  }

  readonly #listeners = new Set<() => void>();

  /** Refuses a token from now on. */
  dropToken(token: string): void {
    this.callers.delete(hashToken(token));
    for (const listener of this.#listeners) listener();
  }

  readonly tokens: Services["tokens"] = {
    find: async (hash: string) => this.callers.get(hash),
    onLess: (listener) => {
      this.#listeners.add(listener);
      return () => this.#listeners.delete(listener);
    },
    list: async (project, query) =>
      pageOf(
        [...this.all.tokens.values()].filter((token) => project === undefined || token.project === project),
        query,
      ),
    get: async (project, ref) => this.#token(project, ref),
    create: async (scope, input) => ({ token: this.addNamedToken(input, scope.project), secret: "berth_secret" }),
    revoke: async (project, ref) => {
      const token = this.#token(project, ref);
      this.all.tokens.delete(token.id);
      return token;
    },
  };

  readonly sessions: Services["sessions"] = {
    find: async (hash) => this.callers.get(hash),
    begin: async ({ user: name, password }) => {
      if (password !== "right") throw new BerthError("wrong_password", "There is no such user with this password.");
      const secret = makeToken("session");
      const user = this.#user(name);
      this.callers.set(hashToken(secret), {
        id: user.id,
        name,
        session: hashToken(secret),
        admin: user.admin,
        roles: new Map(Object.entries(user.roles)),
        project: null,
        scopes: null,
        expiresAt: null,
      });
      return { user, secret, endsAt: Date.parse(at) };
    },
    end: async (hash) => {
      this.callers.delete(hash);
    },
    changePassword: async () => {},
    setPassword: async ({ code }) => {
      if (!code.startsWith("berthr_")) throw new BerthError("reset_expired", "The code is not known.");
    },
  };

  readonly oauth: Services["oauth"] = {
    find: async (token) => this.accessTokens.get(token),
    byPassword: async () => refuseLogin(),
    byClient: async () => refuseLogin(),
    byRefreshToken: async () => refuseLogin(),
    authorizeProgram: async () => "berthc_code",
    byCode: async () => refuseLogin(),
    beginDevice: async () => refuseLogin(),
    authorizeDevice: async () => {},
    byDevice: async () => "authorization_pending",
    revoke: async () => {},
    keys: async () => [],
  };

  readonly users: Services["users"] = {
    list: async (query) => pageOf([...this.all.users.values()], query),
    get: async (ref) => this.#user(ref),
    create: async (input) => ({ user: this.addUser(input), code: "berthr_code", expiresAt: at }),
    change: async (ref, { admin }) => {
      const user = { ...this.#user(ref), ...(admin === undefined ? {} : { admin }) };
      this.all.users.set(user.id, user);
      return user;
    },
    reset: async (ref) => ({ user: this.#user(ref), code: "berthr_code", expiresAt: at }),
    remove: async (ref) => {
      const user = this.#user(ref);
      this.all.users.delete(user.id);
      return user;
    },
  };

  readonly projects: Services["projects"] = {
    list: async (names, query) =>
      pageOf(
        [...this.all.projects.values()].filter(({ name }) => names === undefined || names.includes(name)),
        query,
      ),
    get: async (name) => this.#project(name),
    create: async (scope, { name }, options) => this.#once(scope, options, () => this.addProject(name)),
    quota: async (name) => {
      this.#project(name);
      const none = { instances: null, cpus: null, memoryMib: null, diskMib: null, ports: null, images: null };
      const used = { instances: 1, cpus: 1, memoryMib: 256, diskMib: 1024, ports: 1, images: 1 };
      return { limits: none, used };
    },
    changeQuota: async (name, changes) => {
      const { limits, used } = await this.projects.quota(name);
      return { limits: changedLimits(limits, changes), used };
    },
    remove: async (name) => {
      const project = this.#project(name);
      this.all.projects.delete(name);
      return project;
    },
  };

  readonly instances: Services["instances"] = {
    list: async (scope, query) => {
      const fits = (instance: Instance) =>
        instance.project === scope.project &&
        (query.phase === undefined || instance.status.phase === query.phase) &&
        query.labels.every(({ key, value }) =>
          value === undefined ? key in instance.labels : instance.labels[key] === value,
        );
      return pageOf([...this.all.instances.values()].filter(fits), query);
    },
    get: async (scope, ref) => this.#instance(scope, ref),
    create: async (scope, input, options) =>
      this.#once(scope, options, () => {
        const image = this.addImage(input.image, scope.project);
        const instance = this.addInstance(input, image, scope.project);
        return {
          instance,
          operation: this.begin(
            "instance.create",
            { kind: "instance", id: instance.id, name: instance.name },
            scope.project,
          ),
        };
      }),
    change: async (scope, ref, input, options) => {
      const before = this.#instance(scope, ref);
      const asked = { operationId: "", asked: input };
      const { wishes: after } = beginChange(wishesOf(before), null, asked);
      const change = await this.#changeInstance("change", scope, ref, options, before.status.phase);
      const instance = { ...change.instance, ...withWishes(before, after) };
      this.all.instances.set(instance.id, instance);
      return { ...change, instance, effects: effectsOf(wishesOf(before), after) };
    },
    fork: async (scope, ref, _input, options) => {
      const change = await this.#changeInstance("fork", scope, ref, options, "running");
      return { ...change, children: [change.instance] };
    },
    rebuild: async (scope, ref, _input, options) => ({
      ...(await this.#changeInstance("rebuild", scope, ref, options, "running")),
      kept: null,
    }),
    start: (scope, ref, options) => this.#changeInstance("start", scope, ref, options, "running"),
    stop: (scope, ref, options) => this.#changeInstance("stop", scope, ref, options, "stopped"),
    suspend: (scope, ref, options) => this.#changeInstance("suspend", scope, ref, options, "suspended"),
    restart: (scope, ref, options) => this.#changeInstance("restart", scope, ref, options, "running"),
    remove: async (scope, ref, options) => {
      const change = await this.#changeInstance("delete", scope, ref, options, "deleting");
      this.all.instances.delete(change.instance.id);
      return change;
    },
    logs: async (scope, ref, options) => {
      this.#instance(scope, ref);
      this.calls.push({ name: "logs", scope, options });
      return this.log();
    },
    exec: async (scope, ref, request, signal) => {
      this.#instance(scope, ref);
      const session = new FakeSession(request.command, request.tty);
      this.calls.push({ name: "exec", scope, options: request });
      this.programs.push(session);
      signal.addEventListener("abort", () => session.close(), { once: true });
      this.runProgram(session);
      return session;
    },
    console: async (scope, ref) => {
      this.#instance(scope, ref);
      return Duplex.from(async function* (source: AsyncIterable<Buffer>) {
        yield Buffer.from("login: ");
        for await (const chunk of source) yield chunk;
      });
    },
    readFiles: async (scope, ref) => {
      this.#instance(scope, ref);
      return Readable.from(this.tars);
    },
    writeFiles: async (scope, ref, _path, archive) => {
      this.#instance(scope, ref);
      for await (const chunk of archive) this.tars.push(chunk as Buffer);
    },
  };

  readonly images: Services["images"] = {
    list: async (scope, query) =>
      pageOf(
        [...this.all.images.values()].filter(
          (image) =>
            image.project === scope.project &&
            (query.reference === undefined || image.references.includes(query.reference)),
        ),
        query,
      ),
    get: async (scope, ref) => this.#image(scope, ref),
    pull: async (scope, input, options) =>
      this.#changeImage(scope, options, "pull", () => this.addImage(input.reference, scope.project)),
    build: async (scope, input, options) =>
      this.#changeImage(scope, options, "build", () => this.addImage(input.reference, scope.project)),
    remove: async (scope, ref, options) => {
      const change = await this.#changeImage(scope, options, "delete", () => this.#image(scope, ref));
      this.all.images.delete(change.image.id);
      return change;
    },
  };

  readonly templates: Services["templates"] = {
    list: async (scope, query) =>
      pageOf(
        [...this.all.templates.values()].filter(({ project }) => project === scope.project),
        query,
      ),
    get: async (scope, id) => this.#template(scope, id),
    remove: async (scope, id, options) =>
      this.#once(scope, options, () => {
        const template = this.#template(scope, id);
        this.all.templates.delete(id);
        const target = { kind: "template", id, name: template.image };
        return { template, operation: this.begin("template.delete", target, scope.project) };
      }),
    prune: async (scope, { dryRun }) => {
      const mine = [...this.all.templates.values()].filter(({ project }) => project === scope.project);
      const items = mine.map((template) => {
        const target = { kind: "template", id: template.id, name: template.image };
        const operationId = dryRun ? null : this.begin("template.delete", target, scope.project).id;
        return { template, reason: "it was not used for long enough", operationId };
      });
      return { items };
    },
  };

  readonly archives: Services["archives"] = {
    list: async (scope, query) =>
      pageOf(
        [...this.all.archives.values()].filter((archive) => archive.project === scope.project),
        query,
      ),
    get: async (scope, id) => this.#archive(scope, id),
    export: async (scope, ref, options) =>
      this.#once(scope, options, () => {
        const { id, name } = this.#instance(scope, ref);
        this.calls.push({ name: "export", scope, options });
        const archive = this.addArchive({ id, name }, scope.project);
        return { archive, operation: this.begin("instance.export", { kind: "instance", id, name }, scope.project) };
      }),
    exportSnapshot: async (scope, ref, options) => {
      const { id, name, instanceName } = await this.snapshots.get(scope, ref);
      return this.#once(scope, options, () => {
        const archive = this.addArchive({ id: "i-00000000000000001", name: instanceName }, scope.project);
        return { archive, operation: this.begin("snapshot.export", { kind: "snapshot", id, name }, scope.project) };
      });
    },
    read: async (scope, id) => {
      const { name } = this.#archive(scope, id);
      const bytes = Buffer.from("the bytes of an archive");
      const read = (start: number, end: number) => Readable.from([bytes.subarray(start, end)]);
      return { name, tag: id, sizeBytes: bytes.length, read };
    },
    create: async (scope, input, options) =>
      this.#once(scope, options, () => {
        const { name, sizeBytes, beginning } = input;
        const upload = { name, sizeBytes, beginning, state: "receiving", receivedBytes: 0 } as const;
        const archive = {
          ...this.addArchive({ id: "", name }, scope.project),
          ...upload,
          source: { type: "upload" } as const,
        };
        this.all.archives.set(archive.id, archive);
        return archive;
      }),
    write: async (scope, id, { offset, body }) => {
      const archive = this.#archive(scope, id);
      if (archive.receivedBytes !== offset) throw new BerthError("upload_offset", `${archive.receivedBytes} bytes.`);
      let receivedBytes = offset;
      for await (const chunk of body) receivedBytes += (chunk as Buffer).length;
      this.all.archives.set(id, { ...archive, receivedBytes });
      return receivedBytes;
    },
    import: async (scope, id, input, options) =>
      this.#once(scope, options, () => {
        this.calls.push({ name: "import", scope, options: input });
        const target = { kind: "instance", id: this.#nextInstance(), name: input.name ?? "imported" };
        return { archive: this.#archive(scope, id), operation: this.begin("instance.import", target, scope.project) };
      }),
    remove: async (scope, id, options) =>
      this.#once(scope, options, () => {
        const archive = this.#archive(scope, id);
        this.all.archives.delete(id);
        return {
          archive,
          operation: this.begin("archive.delete", { kind: "archive", id, name: archive.name }, scope.project),
        };
      }),
  };

  readonly snapshots = fakeSnapshots({
    once: (scope, options, change) => this.#once(scope, options, change),
    begin: (type, target, project) => this.begin(type, target, project),
    instance: (scope, ref) => this.#instance(scope, ref),
    image: (reference, project) => this.addImage(reference, project),
    pageOf,
  });
  readonly pools: Services["pools"] = {
    list: async (scope, query) =>
      pageOf(
        [...this.all.pools.values()].filter(({ project }) => project === scope.project),
        query,
      ),
    get: async (scope, ref) => this.#pool(scope, ref),
    create: async (scope, input, options) => this.#once(scope, options, () => this.addPool(input, scope.project)),
    change: async (scope, ref, { size }, options) =>
      this.#once(scope, options, () => {
        const pool = { ...this.#pool(scope, ref), size };
        this.all.pools.set(pool.id, pool);
        return pool;
      }),
    remove: async (scope, ref, options) =>
      this.#once(scope, options, () => {
        const pool = this.#pool(scope, ref);
        this.all.pools.delete(pool.id);
        const target = { kind: "pool", id: pool.id, name: pool.name };
        return { pool, operation: this.begin("pool.delete", target, scope.project) };
      }),
  };

  readonly operations: Services["operations"] = {
    list: async (scope, query) =>
      pageOf(
        [...this.all.operations.values()].filter(
          (operation) =>
            operation.project === scope.project &&
            (query.status === undefined || operation.status === query.status) &&
            (query.target === undefined || operation.target.id === query.target) &&
            !(query.unfinished && isFinal(operation.status)),
        ),
        query,
      ),
    get: async (id) => this.#operation(id),
    watch: (id, signal) => this.#watch(id, signal),
    cancel: async (id) => {
      const operation = this.#operation(id);
      if (isFinal(operation.status)) throw new BerthError("operation_final", `${id} is ${operation.status}.`);
      return this.changeOperation(id, { status: "cancelling" });
    },
    log: async (id) => {
      this.#operation(id);
      return Readable.from(["pulling\n", "done\n"]);
    },
  };

  readonly events: Services["events"] = {
    last: async () => this.all.events.length,
    list: async (scope, query) => {
      const items = this.all.events
        .filter(({ project, seq }) => project === scope.project && seq > Math.max(query.after, this.all.forgotten))
        .filter((event) => query.type === undefined || event.type === query.type)
        .filter((event) => query.subject === undefined || event.subject.id === query.subject)
        .slice(0, query.limit);
      return { items, next: items.at(-1)?.seq ?? query.after, gap: this.#gap(query.after) };
    },
    follow: (scope, after, signal) => this.#follow(scope, after, signal),
  };

  readonly nodes: Services["nodes"] = {
    list: async () => ({ items: this.all.nodes, nextCursor: null }),
    get: async (_scope, ref) => {
      const node = this.all.nodes.find(({ id, name }) => id === ref || name === ref);
      if (!node) throw new BerthError("not_found", `There is no node ${ref}.`);
      return node;
    },
  };

  addInstance(input: CreateInstance, image: Image, project = "default"): Instance {
    const id = this.#nextInstance();
    const name = input.name ?? `instance${id.slice(-6)}`;
    if ([...this.all.instances.values()].some((other) => other.name === name && other.project === project)) {
      throw new BerthError("name_taken", `${name} is in use.`);
    }
    const spec = specOf(input);
    const instance: Instance = {
      id,
      name,
      project,
      labels: input.labels,
      imageId: image.id,
      image: input.image,
      origin: null,
      location: "node1/fake",
      nodeId: "n-00000000000000001",
      generation: 1,
      spec,
      status: {
        phase: "pending",
        ready: false,
        health: "unknown",
        reason: "",
        observedAt: at,
        exitCode: null,
        restartGeneration: 0,
        startedAt: null,
        memoryBytes: null,
        start: null,
        ports: spec.ports,
        restarts: { count: 0, delayMs: 0, nextAt: null },
        snapshots: null,
        pending: [],
      },
      operationId: null,
      createdAt: at,
      updatedAt: at,
    };
    this.all.instances.set(id, instance);
    return instance;
  }

  addImage(reference: string, project = "default"): Image {
    const id = this.#nextImage();
    const image: Image = {
      id,
      project,
      references: [reference],
      source: { type: "registry", reference },
      state: "ready",
      reason: "",
      contentDigest: `sha256:${"0".repeat(64)}`,
      kind: "rootfs",
      os: "linux",
      architecture: "amd64",
      firmware: "kernel",
      sizeBytes: 1234,
      startConfig: exampleStartConfig,
      operationId: null,
      createdAt: at,
    };
    this.all.images.set(id, image);
    return image;
  }

  addTemplate(project = "default"): Template {
    const id = this.#nextTemplate();
    const template: Template = {
      id,
      project,
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
      nodeId: "n-00000000000000001",
      sizeBytes: 1234,
      uses: 0,
      lastUsedAt: null,
      operationId: null,
      createdAt: at,
    };
    this.all.templates.set(id, template);
    return template;
  }

  addArchive({ id, name }: { id: string; name: string }, project = "default"): Archive {
    const archive: Archive = {
      id: this.#nextArchive(),
      project,
      name: `${name}.berth`,
      source: { type: "export", instance: { id, name }, snapshot: null, environment: true },
      state: "ready",
      sizeBytes: 23,
      receivedBytes: 23,
      beginning: "0".repeat(64),
      operationId: null,
      createdAt: at,
      expiresAt: at,
    };
    this.all.archives.set(archive.id, archive);
    return archive;
  }

  addPool(input: CreatePool, project = "default"): Pool {
    const { name, image, size, cpus, memoryMib } = input;
    if ([...this.all.pools.values()].some((other) => other.name === name && other.project === project))
      throw new BerthError("name_taken", `${name} is in use.`);
    const pool: Pool = {
      id: this.#nextPool(),
      name,
      project,
      image,
      location: "node1/fake",
      nodeId: "n-00000000000000001",
      cpus,
      memoryMib,
      size,
      state: "active",
      ready: size,
      filling: 0,
      machines: [{ id: "i-00000000000000009", state: "ready" }],
      uses: 0,
      reason: "",
      memoryBytes: 1234,
      createdAt: at,
    };
    this.all.pools.set(pool.id, pool);
    return pool;
  }

  addProject(name: string): Project {
    const project: Project = { id: this.#nextProject(), name, createdAt: at };
    this.all.projects.set(name, project);
    return project;
  }

  addNamedToken({ name, role, scopes }: CreateToken, project: string): Token {
    const id = this.#nextToken();
    const times = { createdAt: at, expiresAt: null, lastUsedAt: at };
    const token: Token = { id, name, project, role, scopes: scopes ?? null, prefix: "berth_Ab12", ...times };
    this.all.tokens.set(id, token);
    return token;
  }

  addUser({ name, admin, roles }: CreateUser): User {
    const id = this.#nextUser();
    const user: User = { id, name, admin, roles, hasPassword: true, createdAt: at, lastLoginAt: null };
    this.all.users.set(id, user);
    return user;
  }

  begin(type: string, target: Operation["target"], project = "default"): Operation {
    const operation: Operation = {
      id: this.#nextOperation(),
      type,
      project,
      status: this.instant ? "succeeded" : "pending",
      target,
      steps: [],
      reason: "",
      error: null,
      attempt: 1,
      createdAt: at,
      startedAt: null,
      endedAt: this.instant ? at : null,
    };
    this.all.operations.set(operation.id, operation);
    return operation;
  }

  changeOperation(id: string, change: Partial<Operation>): Operation {
    const operation = { ...this.#operation(id), ...change };
    this.all.operations.set(id, operation);
    this.#wake();
    return operation;
  }

  emit(type: string, data: Event["data"] = {}, project = "default"): Event {
    const seq = this.all.events.length + 1;
    const event: Event = {
      seq,
      type,
      project,
      subject: { kind: "instance", id: "i-00000000000000001", name: "web" },
      operationId: null,
      data,
      at,
    };
    this.all.events.push(event);
    this.#wake();
    return event;
  }

  #wake(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  async #untilChanged(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const aborted = Promise.withResolvers<void>();
    const onAbort = () => aborted.resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    await Promise.race([this.#changed.promise, aborted.promise]);
    signal.removeEventListener("abort", onAbort);
  }

  async *#watch(id: string, signal: AbortSignal): AsyncGenerator<Operation, void> {
    let last: Operation | undefined;
    while (!signal.aborted) {
      const operation = this.#operation(id);
      if (operation !== last) yield operation;
      if (isFinal(operation.status)) return;
      last = operation;
      await this.#untilChanged(signal);
    }
  }

  #gap(after: number): EventGap | null {
    return after < this.all.forgotten ? { after, next: this.all.forgotten } : null;
  }

  async *#follow(scope: Scope, after: number, signal: AbortSignal): AsyncGenerator<Event | EventGap, void> {
    const gap = this.#gap(after);
    if (gap) yield gap;
    let next = gap?.next ?? after;
    while (!signal.aborted) {
      const event = this.all.events[next];
      if (event) {
        next = event.seq;
        if (event.project === scope.project) yield event;
      } else {
        await this.#untilChanged(signal);
      }
    }
  }

  #instance(scope: Scope, ref: string): Instance {
    const found = [...this.all.instances.values()].find(
      (instance) => instance.project === scope.project && (instance.id === ref || instance.name === ref),
    );
    if (!found) throw new BerthError("not_found", `There is no instance ${ref} in the project ${scope.project}.`);
    return found;
  }

  #image(scope: Scope, ref: string): Image {
    const found = this.all.images.get(ref);
    if (found?.project !== scope.project) throw new BerthError("not_found", `There is no image ${ref}.`);
    return found;
  }

  #template(scope: Scope, id: string): Template {
    const found = this.all.templates.get(id);
    if (found?.project !== scope.project) throw new BerthError("not_found", `There is no template ${id}.`);
    return found;
  }

  #archive(scope: Scope, id: string): Archive {
    const found = this.all.archives.get(id);
    if (found?.project !== scope.project) throw new BerthError("not_found", `There is no archive ${id}.`);
    return found;
  }

  #pool(scope: Scope, ref: string): Pool {
    const found = [...this.all.pools.values()].find(
      ({ project, id, name }) => project === scope.project && (id === ref || name === ref),
    );
    if (!found) throw new BerthError("not_found", `There is no pool ${ref}.`);
    return found;
  }

  #token(project: string | undefined, ref: string): Token {
    const found = [...this.all.tokens.values()].find(({ id, name }) => id === ref || name === ref);
    if (!found || (project !== undefined && found.project !== project))
      throw new BerthError("not_found", `There is no token ${ref}.`);
    return found;
  }

  #user(ref: string): User {
    const found = [...this.all.users.values()].find(({ id, name }) => id === ref || name === ref);
    if (!found) throw new BerthError("not_found", `There is no user ${ref}.`);
    return found;
  }

  #project(name: string): Project {
    const found = this.all.projects.get(name);
    if (!found) throw new BerthError("not_found", `There is no project ${name}.`);
    return found;
  }

  #operation(id: string): Operation {
    const found = this.all.operations.get(id);
    if (!found) throw new BerthError("not_found", `There is no operation ${id}.`);
    return found;
  }

  async #changeInstance(
    verb: string,
    scope: Scope,
    ref: string,
    options: ChangeOptions,
    phase: Instance["status"]["phase"],
  ) {
    this.calls.push({ name: verb, scope, options });
    return this.#once(scope, options, () => {
      const before = this.#instance(scope, ref);
      if (options.ifMatch && !options.ifMatch.includes(before.generation)) {
        throw new BerthError("precondition_failed", `${ref} is at generation ${before.generation}.`);
      }
      const instance = { ...before, generation: before.generation + 1, status: { ...before.status, phase } };
      this.all.instances.set(instance.id, instance);
      const target = { kind: "instance", id: instance.id, name: instance.name };
      return { instance, operation: this.begin(`instance.${verb}`, target, scope.project) };
    });
  }

  async #changeImage(scope: Scope, options: ChangeOptions, verb: string, change: () => Image) {
    return this.#once(scope, options, () => {
      const image = change();
      const target = { kind: "image", id: image.id, name: image.references[0] ?? "" };
      return { image, operation: this.begin(`image.${verb}`, target, scope.project) };
    });
  }

  #once<T>(scope: Scope, options: ChangeOptions, change: () => T): T {
    if (!options.idempotency) return change();
    const key = `${scope.project}/${scope.caller.id}/${options.idempotency.key}`;
    const known = this.keys.get(key);
    if (known && known.hash !== options.idempotency.requestHash) {
      throw new BerthError("idempotency_mismatch", "The key was used for another request.");
    }
    if (known) return known.answer() as T;
    const answer = change();
    this.keys.set(key, { hash: options.idempotency.requestHash, answer: () => answer });
    return answer;
  }
}

/** A program in a guest that is not there. */
export class FakeSession implements ExecSession {
  readonly command: readonly string[];
  readonly stdin = new PassThrough();
  readonly stdout = new PassThrough();
  readonly stderr: PassThrough | null;
  readonly sizes: { cols: number; rows: number }[] = [];
  readonly signals: string[] = [];
  readonly #exit = Promise.withResolvers<{ code: number }>();
  readonly exit = this.#exit.promise;
  closed = false;

  constructor(command: readonly string[], tty: boolean) {
    this.command = command;
    this.stderr = tty ? null : new PassThrough();
  }

  resize(cols: number, rows: number): void {
    this.sizes.push({ cols, rows });
  }

  signal(name: string): void {
    this.signals.push(name);
    this.end(name === "KILL" ? 137 : 143);
  }

  end(code: number): void {
    this.stdout.end();
    this.stderr?.end();
    this.#exit.resolve({ code });
  }

  close(): void {
    this.closed = true;
    this.stdin.destroy();
    this.end(137);
  }
}

/** Writes its input back, its command to standard error, and ends with 3. */
function echoProgram(session: FakeSession): void {
  session.stderr?.write(session.command.join(" "));
  session.stdin.pipe(session.stdout, { end: false });
  session.stdin.on("end", () => session.end(3));
}

function pageOf<T extends { readonly id: string }>(items: readonly T[], { cursor, limit }: PageRequest): Page<T> {
  const start = cursor === undefined ? 0 : items.findIndex(({ id }) => id === cursor) + 1;
  if (cursor !== undefined && start === 0)
    throw new BerthError("invalid_request", "The cursor is not one that a list has given.");
  const page = items.slice(start, start + limit);
  return { items: page, nextCursor: start + limit < items.length ? (page.at(-1)?.id ?? null) : null };
}
