import type { Duplex, Readable, Writable } from "node:stream";
import type {
  Archive,
  ArchiveChange,
  AuthorizeDevice,
  AuthorizeProgram,
  BuildImage,
  ChangeInstance,
  ChangePassword,
  ChangePool,
  ChangeQuota,
  ChangeUser,
  CreateArchive,
  CreateInstance,
  CreatePool,
  CreateProject,
  CreateSnapshot,
  CreateToken,
  CreateUser,
  Event,
  EventGap,
  ExecRequest,
  ExecSignal,
  ForkChange,
  ForkInstance,
  Image,
  ImageChange,
  ImportInstance,
  Instance,
  InstanceChange,
  InstancePhase,
  InstanceUpdate,
  LaunchSnapshot,
  LogIn,
  NewToken,
  Node,
  Operation,
  OperationStatus,
  Pool,
  PoolChange,
  Project,
  ProjectQuota,
  PromoteSnapshot,
  PrunedTemplates,
  PruneTemplates,
  PullImage,
  RebuildChange,
  RebuildInstance,
  RestoreChange,
  RestoreSnapshot,
  SetPassword,
  Snapshot,
  SnapshotChange,
  Template,
  TemplateChange,
  Token,
  User,
  UserReset,
} from "@berth/api";
import type { Caller } from "../identity/authorize.ts";

/** Who asks, and in which project: `?project=`, else the token's, else `default`. The pair has passed `authorize()`. */
export interface Scope {
  readonly caller: Caller;
  readonly project: string;
}

/** How a change is to be made; all of it is judged in the transaction that makes it. */
export interface ChangeOptions {
  /**
   * The request's Idempotency-Key and the SHA-256 of what it asks. The same pair from the same token in the same project is answered with the first
   * answer's objects as they are now; another request under a used key throws `idempotency_mismatch`.
   */
  readonly idempotency: { readonly key: string; readonly requestHash: string } | null;
  /** The generations the object may have, by If-Match; null for any. Another one throws `precondition_failed`. */
  readonly ifMatch: readonly number[] | null;
  /** Whether to wait for whoever holds the object instead of throwing `busy`. */
  readonly queue: boolean;
}

/** A label an instance must have; with any value when none is given. */
export interface LabelFilter {
  readonly key: string;
  readonly value?: string | undefined;
}

export interface PageRequest {
  readonly limit: number;
  /** As the page before gave it; one that it did not give throws `invalid_request`. */
  readonly cursor: string | undefined;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor: string | null;
}

/** How an export is to be made. */
export interface ExportOptions extends ChangeOptions {
  /** Whether the instance's own variables go with it. */
  readonly environment: boolean;
}

/** The next part of what is sent. */
export interface UploadPart {
  /** How much the sender believes has arrived. */
  readonly offset: number;
  readonly body: Readable;
  readonly signal: AbortSignal;
}

/** A file whose bytes never change. */
export interface FileAnswer {
  /** What to call it. */
  readonly name: string;
  /** Tells it from every other, without quotes: its ETag. */
  readonly tag: string;
  readonly sizeBytes: number;
  /** The bytes from `start` on, before `end`. */
  read(start: number, end: number): Readable;
}

/** A program running in a guest. */
export interface ExecSession {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Null with a terminal: there is only one stream then. */
  readonly stderr: Readable | null;
  resize(cols: number, rows: number): void;
  signal(name: ExecSignal): void;
  /** How it ended; rejects with a BerthError when the guest was lost. */
  readonly exit: Promise<{ readonly code: number }>;
  /** Kills it if it still runs and lets go of everything; may be called more than once. */
  close(): void;
}

/** Scopes that are asked for; null for all there are. */
interface Narrowed {
  readonly scopes: readonly string[] | null;
}

/** What a client of OAuth is given. */
export interface OAuthAnswer {
  readonly accessToken: string;
  readonly lifetimeMs: number;
  readonly refreshToken: string | null;
  readonly scopes: readonly string[] | null;
}

/** A device's login that waits for its user. */
export interface DeviceLogin {
  readonly deviceCode: string;
  readonly userCode: string;
  readonly lifetimeMs: number;
  readonly intervalMs: number;
}

/** Why a device is not let in, in the words of RFC 8628 (section 3.5). */
export type DeviceWaits = "authorization_pending" | "slow_down" | "access_denied" | "expired_token";

/**
 * What the server asks of the rest of the daemon. Every function throws BerthErrors: `not_found` for what is not there or not in the scope's project.
 * `ref` is an id or a name.
 */
export interface Services {
  readonly tokens: {
    /** Whose token has this SHA-256 (hex); undefined for an unknown, expired or revoked one. Asked a few times a second at most for one token. */
    find(hash: string): Promise<Caller | undefined>;
    /** Calls back, before the change is answered, whenever a token may do less than before; returns how to stop that. */
    onLess(listener: () => void): () => void;
    /** Of one project; of all and of the whole system when it is undefined, as in the next. */
    list(project: string | undefined, query: PageRequest): Promise<Page<Token>>;
    /** By id or name. */
    get(project: string | undefined, ref: string): Promise<Token>;
    create(scope: Scope, input: CreateToken): Promise<NewToken>;
    revoke(project: string | undefined, ref: string): Promise<Token>;
  };
  readonly sessions: {
    /** Whose session has a secret with this SHA-256 (hex); undefined when it has ended. */
    find(hash: string): Promise<Caller | undefined>;
    /** Throws `wrong_password`, and `rate_limited` for who failed too often from this address. */
    begin(
      input: LogIn,
      address: string,
    ): Promise<{ readonly user: User; readonly secret: string; readonly endsAt: number }>;
    end(hash: string): Promise<void>;
    /** Throws `wrong_password`, `weak_password`, and `rate_limited` as logging in does. */
    changePassword(caller: Caller, input: ChangePassword, address: string): Promise<void>;
    /** Throws `reset_expired` and `weak_password`. */
    setPassword(input: SetPassword): Promise<void>;
  };
  /** OAuth 2.0. What is refused throws `unauthenticated`, `wrong_password`, `rate_limited`, or `forbidden` for scopes beyond what there is. */
  readonly oauth: {
    /** Whose access token it is; undefined for one that was not issued here, was changed, expired, or whose login has ended. */
    find(accessToken: string): Promise<Caller | undefined>;
    byPassword(input: LogIn & Narrowed, address: string): Promise<OAuthAnswer>;
    byClient(input: { readonly clientId: string; readonly secret: string } & Narrowed): Promise<OAuthAnswer>;
    byRefreshToken(input: { readonly refreshToken: string }): Promise<OAuthAnswer>;
    /** Resolves with the code by which the program gets its tokens. */
    authorizeProgram(caller: Caller, input: AuthorizeProgram): Promise<string>;
    byCode(input: {
      readonly code: string;
      readonly verifier: string;
      readonly redirectUri: string;
    }): Promise<OAuthAnswer>;
    /** Throws `rate_limited` while too many devices wait. */
    beginDevice(input: Narrowed): Promise<DeviceLogin>;
    /** Throws `not_found` when no device waits with this code. */
    authorizeDevice(caller: Caller, input: AuthorizeDevice): Promise<void>;
    byDevice(input: { readonly deviceCode: string }): Promise<OAuthAnswer | DeviceWaits>;
    /** Ends the login of a refresh token. */
    revoke(refreshToken: string): Promise<void>;
    /** The public keys, as JWKs. */
    keys(): Promise<readonly Readonly<Record<string, string>>[]>;
  };
  readonly users: {
    list(query: PageRequest): Promise<Page<User>>;
    get(ref: string): Promise<User>;
    create(input: CreateUser): Promise<UserReset>;
    change(ref: string, input: ChangeUser): Promise<User>;
    reset(ref: string): Promise<UserReset>;
    remove(ref: string): Promise<User>;
  };
  readonly projects: {
    /** Of these names; all when undefined. */
    list(names: readonly string[] | undefined, query: PageRequest): Promise<Page<Project>>;
    get(name: string): Promise<Project>;
    create(scope: Scope, input: CreateProject, options: ChangeOptions): Promise<Project>;
    quota(name: string): Promise<ProjectQuota>;
    changeQuota(name: string, changes: ChangeQuota): Promise<ProjectQuota>;
    /** Throws `project_in_use` for one that holds something. */
    remove(name: string): Promise<Project>;
  };
  readonly instances: {
    list(
      scope: Scope,
      query: PageRequest & { readonly labels: readonly LabelFilter[]; readonly phase: InstancePhase | undefined },
    ): Promise<Page<Instance>>;
    get(scope: Scope, ref: string): Promise<Instance>;
    create(scope: Scope, input: CreateInstance, options: ChangeOptions): Promise<InstanceChange>;
    change(scope: Scope, ref: string, input: ChangeInstance, options: ChangeOptions): Promise<InstanceUpdate>;
    /** Throws `instance_not_running` for one that does not run. */
    fork(scope: Scope, ref: string, input: ForkInstance, options: ChangeOptions): Promise<ForkChange>;
    /** Throws `instance_suspended` for one that sleeps, unless that is forced. */
    rebuild(scope: Scope, ref: string, input: RebuildInstance, options: ChangeOptions): Promise<RebuildChange>;
    start(scope: Scope, ref: string, options: ChangeOptions & { readonly cold: boolean }): Promise<InstanceChange>;
    stop(scope: Scope, ref: string, options: ChangeOptions & { readonly force: boolean }): Promise<InstanceChange>;
    suspend(scope: Scope, ref: string, options: ChangeOptions): Promise<InstanceChange>;
    restart(scope: Scope, ref: string, options: ChangeOptions): Promise<InstanceChange>;
    remove(
      scope: Scope,
      ref: string,
      options: ChangeOptions & { readonly force: boolean; readonly snapshots: boolean },
    ): Promise<InstanceChange>;
    /** Resolves once it is known that there is a log; the stream ends by itself without `follow`, or when the instance stops. */
    logs(
      scope: Scope,
      ref: string,
      options: {
        readonly tail: number | undefined;
        readonly follow: boolean;
        readonly timestamps: boolean;
        readonly signal: AbortSignal;
      },
    ): Promise<Readable>;
    /** Resolves once the program runs. */
    exec(scope: Scope, ref: string, request: ExecRequest, signal: AbortSignal): Promise<ExecSession>;
    /** Attaches to the serial console; destroying the stream detaches. */
    console(scope: Scope, ref: string, signal: AbortSignal): Promise<Duplex>;
    /** Resolves with a tar archive once the guest has found the path. */
    readFiles(scope: Scope, ref: string, path: string, signal: AbortSignal): Promise<Readable>;
    /** Unpacks a tar archive, which is read as fast as the guest takes it. */
    writeFiles(scope: Scope, ref: string, path: string, archive: Readable, signal: AbortSignal): Promise<void>;
  };
  readonly images: {
    list(scope: Scope, query: PageRequest & { readonly reference: string | undefined }): Promise<Page<Image>>;
    get(scope: Scope, ref: string): Promise<Image>;
    pull(scope: Scope, input: PullImage, options: ChangeOptions): Promise<ImageChange>;
    build(scope: Scope, input: BuildImage, options: ChangeOptions): Promise<ImageChange>;
    remove(scope: Scope, ref: string, options: ChangeOptions): Promise<ImageChange>;
  };
  readonly templates: {
    list(scope: Scope, query: PageRequest): Promise<Page<Template>>;
    get(scope: Scope, id: string): Promise<Template>;
    remove(scope: Scope, id: string, options: ChangeOptions): Promise<TemplateChange>;
    /** Begins to delete what is of no use any more, and what the request names. */
    prune(scope: Scope, request: PruneTemplates): Promise<PrunedTemplates>;
  };
  readonly archives: {
    list(scope: Scope, query: PageRequest): Promise<Page<Archive>>;
    get(scope: Scope, id: string): Promise<Archive>;
    /** Throws `instance_running` for one that is not off. */
    export(scope: Scope, ref: string, options: ExportOptions): Promise<ArchiveChange>;
    /** Throws `busy` for a snapshot that is being made or deleted. */
    exportSnapshot(scope: Scope, ref: string, options: ExportOptions): Promise<ArchiveChange>;
    /** Announces an archive that will be sent. */
    create(scope: Scope, input: CreateArchive, options: ChangeOptions): Promise<Archive>;
    /** Takes the next part of an announced archive; resolves with how much has arrived. Throws `upload_offset` when another part is expected. */
    write(scope: Scope, id: string, part: UploadPart): Promise<number>;
    /** Throws `archive_incomplete`, `invalid_archive`, and what a request for a new instance does. */
    import(scope: Scope, id: string, input: ImportInstance, options: ChangeOptions): Promise<ArchiveChange>;
    /** Throws `busy` while it is written, `archive_incomplete` while it arrives. */
    read(scope: Scope, id: string): Promise<FileAnswer>;
    remove(scope: Scope, id: string, options: ChangeOptions): Promise<ArchiveChange>;
  };
  readonly snapshots: {
    list(scope: Scope, query: PageRequest & { readonly instance: string | undefined }): Promise<Page<Snapshot>>;
    get(scope: Scope, ref: string): Promise<Snapshot>;
    create(scope: Scope, input: CreateSnapshot, options: ChangeOptions): Promise<SnapshotChange>;
    remove(scope: Scope, ref: string, options: ChangeOptions): Promise<SnapshotChange>;
    verify(scope: Scope, ref: string, options: ChangeOptions): Promise<SnapshotChange>;
    restore(scope: Scope, ref: string, input: RestoreSnapshot, options: ChangeOptions): Promise<RestoreChange>;
    launch(scope: Scope, ref: string, input: LaunchSnapshot, options: ChangeOptions): Promise<InstanceChange>;
    promote(scope: Scope, ref: string, input: PromoteSnapshot, options: ChangeOptions): Promise<ImageChange>;
  };
  readonly pools: {
    list(scope: Scope, query: PageRequest): Promise<Page<Pool>>;
    get(scope: Scope, ref: string): Promise<Pool>;
    create(scope: Scope, input: CreatePool, options: ChangeOptions): Promise<Pool>;
    change(scope: Scope, ref: string, input: ChangePool, options: ChangeOptions): Promise<Pool>;
    remove(scope: Scope, ref: string, options: ChangeOptions): Promise<PoolChange>;
  };
  /** An operation is found by its id in any project; the server authorises by the project it belongs to. */
  readonly operations: {
    list(
      scope: Scope,
      query: PageRequest & {
        readonly target: string | undefined;
        readonly status: OperationStatus | undefined;
        readonly unfinished: boolean;
      },
    ): Promise<Page<Operation>>;
    get(id: string): Promise<Operation>;
    /** The operation as it is now, then again after each change (a few times a second at most), for the last time when it is final. Ends early when aborted. */
    watch(id: string, signal: AbortSignal): AsyncIterable<Operation>;
    /** Asks for it to be cancelled. Throws `operation_final` when it has ended. */
    cancel(id: string): Promise<Operation>;
    /** The log's lines as text; with `follow` until the operation ends. */
    log(id: string, options: { readonly follow: boolean; readonly signal: AbortSignal }): Promise<Readable>;
  };
  readonly events: {
    /** The number of the newest event; 0 when there is none yet. */
    last(): Promise<number>;
    list(
      scope: Scope,
      query: {
        readonly after: number;
        readonly limit: number;
        readonly type: string | undefined;
        readonly subject: string | undefined;
      },
    ): Promise<{ readonly items: readonly Event[]; readonly next: number; readonly gap: EventGap | null }>;
    /** Every event of the project after number `after`, then each new one, until aborted; and what is not kept any more, before what comes after it. */
    follow(scope: Scope, after: number, signal: AbortSignal): AsyncIterable<Event | EventGap>;
  };
  readonly nodes: {
    list(scope: Scope): Promise<Page<Node>>;
    get(scope: Scope, ref: string): Promise<Node>;
  };
}
