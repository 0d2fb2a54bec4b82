import { z } from "zod";
import {
  ChangeQuery,
  IdOrName,
  idSchema,
  LabelKey,
  Labels,
  LabelValue,
  Name,
  numberFromText,
  PageQuery,
  Timestamp,
  YesOrNo,
} from "./common.ts";
import { Problem } from "./problem.ts";
import { ChangeSnapshotSchedule, SnapshotSchedule, SnapshotScheduleStatus } from "./snapshot-schedule.ts";

/** What an instance is doing, as last observed. */
export const instancePhases = [
  "pending",
  "provisioning",
  "stopped",
  "starting",
  "running",
  "stopping",
  "suspended",
  "deleting",
  "failed",
  "unknown",
] as const;
export const InstancePhase = z.enum(instancePhases);
export type InstancePhase = z.infer<typeof InstancePhase>;

/** A guest port reachable on the node. `hostPort` 0 asks for any free one; the answer tells which it became. */
export const PublishedPort = z.object({
  hostAddress: z.union([z.ipv4(), z.ipv6()]).default("127.0.0.1"),
  hostPort: z.number().int().min(0).max(65535).default(0),
  guestPort: z.number().int().min(1).max(65535),
  protocol: z.enum(["tcp", "udp"]).default("tcp"),
});
export type PublishedPort = z.infer<typeof PublishedPort>;

/**
 * One disk. The first is the root disk, a copy-on-write layer over the image's artifact; one called `volumes` has the folders that the image declares as VOLUME.
 */
export const DiskSpec = z.object({
  name: Name,
  sizeMib: z
    .number()
    .int()
    .min(16)
    .max(16 * 1024 * 1024),
});
export type DiskSpec = z.infer<typeof DiskSpec>;

/** One attachment to a network. `user` is user-mode networking: outgoing connections and published ports, no root needed. */
export const InterfaceSpec = z.object({ name: Name, network: z.literal("user") });
export type InterfaceSpec = z.infer<typeof InterfaceSpec>;

const environmentName = z.string().regex(/^[^=\0]{1,1024}$/, "must be a variable name without '='");
const argument = z
  .string()
  .max(128 * 1024)
  .regex(/^[^\0]*$/, "must not contain a NUL character");

/** Environment variables of the image's process. */
export const Environment = z.record(environmentName, argument);

/**
 * Whether a new instance may begin from memory that was captured of a machine like it (docs/warm-start.md). `auto`: when there is such a template; `never`: it always
 * boots; `require`: it waits for the template, has it made where it is missing, and is not booted instead; `app`: as `require`, from one
 * that was captured when the image's process was ready, so that its state, keys and random numbers are shared.
 */
export const WarmPolicy = z.enum(["auto", "never", "require", "app"]);
export type WarmPolicy = z.infer<typeof WarmPolicy>;
/** When an instance that has ended is started again, as docker's `--restart`. */
export const RestartPolicy = z
  .string()
  .regex(
    /^(no|on-failure(:[1-9][0-9]{0,4})?|always|unless-stopped)$/,
    "must be no, on-failure, on-failure:3, always or unless-stopped",
  );

/**
 * Puts a running instance to sleep, its memory on disk, when it had nothing to do for so long: no connection to a published port, nothing that came to one, and no session
 * (exec, shell, console, cp, logs -f). The next connection to a published TCP port wakes it, and waits meanwhile.
 */
export const Autosuspend = z
  .strictObject({
    idleSeconds: z
      .number()
      .int()
      .min(1)
      .max(30 * 24 * 3600),
  })
  .meta({ id: "Autosuspend" });
export type Autosuspend = z.infer<typeof Autosuspend>;

/** Memory that may be asked for: a guest with less does not come up. */
export const RequestedMemory = z
  .number()
  .int()
  .min(96, "must be at least 96: a guest with less does not come up")
  .max(16 * 1024 * 1024);

/** What was asked of an instance. */
export const InstanceSpec = z
  .object({
    cpus: z.number().int().min(1).max(512),
    memoryMib: z
      .number()
      .int()
      .min(64)
      .max(16 * 1024 * 1024),
    disks: z.array(DiskSpec).min(1).max(16),
    interfaces: z.array(InterfaceSpec).max(8),
    ports: z.array(PublishedPort).max(256),
    env: Environment,
    entrypoint: z.array(argument).max(4096).nullable().describe("Overrides the image's ENTRYPOINT; null keeps it."),
    command: z.array(argument).max(4096).nullable().describe("Overrides the image's CMD; null keeps it."),
    tty: z.boolean().describe("Whether the process gets the console as its terminal, as `docker run -t`."),
    stopTimeoutMs: z
      .number()
      .int()
      .min(0)
      .max(3_600_000)
      .describe("How long a stop waits after the image's stop signal before it cuts the power, in milliseconds."),
    warm: WarmPolicy.default("auto").describe(
      "Whether its first start may go on from a template's memory: `auto`, `never`, `require`, or `app` for one that was captured when its process was ready.",
    ),
    restart: RestartPolicy.default("no").describe("When it is started again after it has ended."),
    autosuspend: Autosuspend.nullable()
      .default(null)
      .describe("When it is put to sleep by itself; null for never. It must publish a TCP port."),
    snapshots: SnapshotSchedule.nullable()
      .default(null)
      .describe("When snapshots of it are taken by themselves, and which of those stay; null for none."),
    power: z
      .enum(["running", "stopped", "suspended"])
      .describe("The power state wished for; `suspended` is off with its memory on disk."),
    restartGeneration: z.number().int().min(0).describe("Raised by one for each restart asked for."),
  })
  .meta({ id: "InstanceSpec" });
export type InstanceSpec = z.infer<typeof InstanceSpec>;

/** How a run began. */
export const InstanceStart = z
  .object({
    mode: z
      .enum(["cold", "warm", "pool", "resumed", "forked", "restored"])
      .describe(
        "`cold`: it booted. All others went on from memory: a template's, a pool's, its own, or another instance's.",
      ),
    reason: z.string().describe("Why so, in words for a person; empty when there is nothing to say."),
  })
  .meta({ id: "InstanceStart" });
export type InstanceStart = z.infer<typeof InstanceStart>;

/** What was last observed of an instance. */
export const InstanceStatus = z
  .object({
    phase: InstancePhase,
    ready: z.boolean().describe("The image's process runs and listens on every published TCP port."),
    health: z.enum(["healthy", "unhealthy", "unknown"]),
    reason: z.string().describe("Why it is so, in words for a person; empty when there is nothing to say."),
    observedAt: Timestamp,
    exitCode: z
      .number()
      .int()
      .nullable()
      .describe("The exit code of the image's process in its last run; null while it runs or before."),
    startedAt: Timestamp.nullable().describe("When the present or last run began; null before the first."),
    memoryBytes: z
      .number()
      .int()
      .nullable()
      .default(null)
      .describe("The disk space that its memory takes while it is suspended; null while it is not."),
    start: InstanceStart.nullable().default(null).describe("How its latest run began; null when it never ran."),
    restartGeneration: z
      .number()
      .int()
      .nullable()
      .describe("The spec's `restartGeneration` that the latest run was started for; null when it never ran."),
    ports: z.array(PublishedPort).describe("The published ports with the host ports they really have."),
    restarts: z
      .object({
        count: z.number().int().describe("How often the restart policy has started it since somebody last did."),
        delayMs: z.number().int().describe("How long the policy waited last time; the next pause is twice as long."),
        nextAt: Timestamp.nullable().describe("When the policy will start it; null when it will not."),
      })
      .default({ count: 0, delayMs: 0, nextAt: null }),
    snapshots: SnapshotScheduleStatus.nullable()
      .default(null)
      .describe("How its schedule of snapshots is doing; null when it has none."),
    pending: z
      .array(z.string())
      .default([])
      .describe(
        "The fields of the spec whose newest values the present run does not have yet: the next start brings them.",
      ),
  })
  .meta({ id: "InstanceStatus" });
export type InstanceStatus = z.infer<typeof InstanceStatus>;

const ancestor = z.object({ id: idSchema("instance"), name: Name });

/** What an instance was made from, when that is not its image alone. What it names may be gone. */
export const InstanceOrigin = z
  .discriminatedUnion("kind", [
    z.object({
      kind: z.literal("snapshot"),
      instance: ancestor.describe("The instance it is a copy of, which may be gone."),
      snapshot: z.object({ id: idSchema("snapshot"), name: Name }),
    }),
    z.object({
      kind: z.literal("fork"),
      instance: ancestor.describe("The instance it is a child of, which may be gone."),
      index: z.number().int().describe("Its place among the children of one fork, from 0."),
    }),
  ])
  .meta({ id: "InstanceOrigin" });
export type InstanceOrigin = z.infer<typeof InstanceOrigin>;

/** A virtual machine we manage. */
export const Instance = z
  .object({
    id: idSchema("instance"),
    name: Name,
    project: Name,
    labels: Labels,
    imageId: idSchema("image"),
    image: z.string().describe("The reference the image had when the instance was made."),
    origin: InstanceOrigin.nullable().describe("What it was made from, when that is not its image alone."),
    location: z.string(),
    nodeId: idSchema("node"),
    generation: z.number().int().describe("Raised by one with each change of the spec or the labels; the ETag."),
    spec: InstanceSpec,
    status: InstanceStatus,
    operationId: idSchema("operation").nullable().describe("The unfinished operation that holds the instance, if any."),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Instance" });
export type Instance = z.infer<typeof Instance>;

/** A request for a new instance. `image` is a reference or an image id; a reference never seen is pulled. */
export const CreateInstance = z
  .strictObject({
    image: z.string().min(1).max(512),
    name: Name.optional(),
    labels: Labels.default({}),
    location: z.string().max(128).optional(),
    cpus: InstanceSpec.shape.cpus.default(1),
    memoryMib: RequestedMemory.default(512),
    diskMib: DiskSpec.shape.sizeMib
      .optional()
      .describe(
        "The root disk's size. When it is not given, or smaller than the image's own, it is the image's own: at least 1024 MiB.",
      ),
    ports: z.array(PublishedPort.strict()).max(256).default([]),
    env: Environment.default({}),
    entrypoint: z.array(argument).max(4096).optional(),
    command: z.array(argument).max(4096).optional(),
    tty: z.boolean().default(false),
    stopTimeoutMs: InstanceSpec.shape.stopTimeoutMs.default(10_000),
    restart: InstanceSpec.shape.restart,
    start: z.boolean().default(true).describe("Whether to start it at once."),
    warm: InstanceSpec.shape.warm,
    autosuspend: InstanceSpec.shape.autosuspend,
    snapshots: InstanceSpec.shape.snapshots,
  })
  .meta({
    id: "CreateInstance",
    examples: [{ image: "nginx:1.27", name: "web", ports: [{ hostPort: 8080, guestPort: 80 }], env: { TZ: "UTC" } }],
  });
export type CreateInstance = z.infer<typeof CreateInstance>;
export type CreateInstanceInput = z.input<typeof CreateInstance>;

/**
 * A change of an instance, as a JSON merge patch (RFC 7396) over what can be changed: what is left out stays, null takes away, a list is replaced as a whole. `hostPort` 0
 * keeps the host port that the same guest port had.
 */
export const ChangeInstance = z
  .strictObject({
    name: Name,
    labels: z.record(LabelKey, LabelValue.nullable()),
    cpus: InstanceSpec.shape.cpus,
    memoryMib: RequestedMemory,
    diskMib: DiskSpec.shape.sizeMib.describe(
      "The size of the root disk, and of the disk with the volumes where there is one; it only grows.",
    ),
    ports: CreateInstance.shape.ports.unwrap(),
    env: z.record(environmentName, argument.nullable()),
    entrypoint: InstanceSpec.shape.entrypoint,
    command: InstanceSpec.shape.command,
    tty: InstanceSpec.shape.tty,
    stopTimeoutMs: InstanceSpec.shape.stopTimeoutMs,
    restart: RestartPolicy,
    autosuspend: InstanceSpec.shape.autosuspend.unwrap(),
    snapshots: ChangeSnapshotSchedule.nullable(),
  })
  .partial()
  .meta({
    id: "ChangeInstance",
    examples: [{ memoryMib: 1024, env: { MODE: "fast", DEBUG: null }, labels: { team: "a" } }],
  });
export type ChangeInstance = z.infer<typeof ChangeInstance>;
export type ChangeInstanceInput = z.input<typeof ChangeInstance>;

/** The most children of one fork. */
export const maxChildren = 100;

/** A request for children of a running instance: each goes on from its memory and disks of one moment, as itself. */
export const ForkInstance = z
  .strictObject({
    count: z.number().int().min(1).max(maxChildren).default(1),
    name: Name.optional().describe(
      "The name of the only child; of several, what their names begin with: `NAME-1`, `NAME-2` and so on, as far as these are free. The parent's name when not given.",
    ),
    labels: Labels.default({}).describe("Labels beside the parent's, or instead of them."),
    ports: z
      .array(PublishedPort.strict())
      .max(256)
      .optional()
      .describe("What each child publishes; the parent's ports, on free host ports, when not given."),
  })
  .meta({ id: "ForkInstance", examples: [{ count: 3, name: "trial" }] });
export type ForkInstance = z.infer<typeof ForkInstance>;
export type ForkInstanceInput = z.input<typeof ForkInstance>;

/** A request to make an instance's root disk anew. Its volumes, name, ports, environment and all else of its spec stay. */
export const RebuildInstance = z
  .strictObject({
    image: z
      .string()
      .min(1)
      .max(512)
      .optional()
      .describe(
        "A reference or an image id; what the instance's own reference names now when not given. A reference never seen is pulled.",
      ),
    force: z.boolean().default(false).describe("Whether a suspended one may lose what is in its memory."),
    discard: z
      .boolean()
      .default(false)
      .describe("Whether what is on its root disk now goes. Otherwise all its disks are kept as a snapshot first."),
  })
  .meta({ id: "RebuildInstance", examples: [{ image: "nginx:1.27" }] });
export type RebuildInstance = z.infer<typeof RebuildInstance>;
export type RebuildInstanceInput = z.input<typeof RebuildInstance>;

/** What it takes until a change holds: `live`, nothing; `restart`, the next start; `rebuild`, a new root disk. */
export const ChangeEffect = z
  .object({ field: z.string(), takes: z.enum(["live", "restart", "rebuild"]) })
  .meta({ id: "ChangeEffect" });
export type ChangeEffect = z.infer<typeof ChangeEffect>;

/** The query of the instance list; `label` is `key=value` or `key`, repeatable. */
export const ListInstancesQuery = PageQuery.extend({
  label: z.union([z.string(), z.array(z.string())]).optional(),
  phase: InstancePhase.optional(),
});

/** A start; `cold` drops the memory of a suspended instance and boots it from its disks, as after a power failure. */
export const StartInstanceQuery = ChangeQuery.extend({ cold: YesOrNo.optional() });

/** A stop; `force` cuts the power at once and cancels what else is being done to the instance. A suspended one is refused without it. */
export const StopInstanceQuery = ChangeQuery.extend({ force: YesOrNo.optional() });

/** A delete; without `force` a running instance is refused with `instance_running`. */
export const DeleteInstanceQuery = ChangeQuery.extend({
  force: YesOrNo.optional(),
  snapshots: YesOrNo.optional().describe("Whether its snapshots go too; they stay otherwise."),
});

/** The path of one instance. */
export const InstanceParams = z.object({ instance: IdOrName });

/** The query of the log: the last `tail` lines, then, with `follow`, each new one until the instance stops or the client leaves. */
export const LogsQuery = z.object({
  project: Name.optional(),
  tail: numberFromText(z.number().int().min(0).max(1_000_000)).optional(),
  follow: YesOrNo.optional(),
  timestamps: YesOrNo.optional().describe("Begin each line with the time it was written, RFC 3339."),
});

/** The first message of an exec connection, as JSON text. Streams follow as binary frames: see `execFrames`. */
export const ExecRequest = z
  .strictObject({
    command: z.array(argument).min(1).max(4096),
    env: Environment.default({}),
    user: z
      .string()
      .max(256)
      .optional()
      .describe("As USER in a Dockerfile: name or number, optionally `:group`; the image's own when not given."),
    workingDir: z.string().max(4096).optional(),
    tty: z.boolean().default(false),
    cols: z.number().int().min(1).max(1000).default(80),
    rows: z.number().int().min(1).max(1000).default(24),
    stdin: z
      .boolean()
      .default(false)
      .describe("Whether the client will send standard input; without it the program reads end-of-file."),
    windowBytes: z
      .number()
      .int()
      .min(4096)
      .max(16 * 1024 * 1024)
      .optional()
      .describe(
        "The most output, in bytes, that the server sends beyond what the client has acknowledged by `{ack: bytes}`, and the most input that the client may send beyond what the server has. Without it only TCP holds either side back, and a client that does not read while it writes can block itself.",
      ),
  })
  .meta({ id: "ExecRequest", examples: [{ command: ["uname", "-a"] }] });
export type ExecRequest = z.infer<typeof ExecRequest>;
export type ExecRequestInput = z.input<typeof ExecRequest>;

/**
 * The first byte of a binary frame on an exec or console connection. `stdin` with nothing behind it is end-of-file;
 * `control` carries JSON: a ClientControl or a ServerControl.
 */
export const execFrames = { stdin: 0, stdout: 1, stderr: 2, control: 3 } as const;

/** The signals that can be sent to a program: those SSH names (RFC 4254, section 6.10) and two that terminals send. */
export const execSignals = [
  "ABRT",
  "ALRM",
  "FPE",
  "HUP",
  "ILL",
  "INT",
  "KILL",
  "PIPE",
  "QUIT",
  "SEGV",
  "TERM",
  "USR1",
  "USR2",
  "WINCH",
  "TSTP",
] as const;
export type ExecSignal = (typeof execSignals)[number];

/** What a client says on the control stream: the terminal's new size, a signal, or how many more bytes of output it has taken in. */
export const ClientControl = z
  .union([
    z.strictObject({
      resize: z.strictObject({ cols: z.number().int().min(1).max(1000), rows: z.number().int().min(1).max(1000) }),
    }),
    z.strictObject({ signal: z.enum(execSignals) }),
    z.strictObject({ ack: z.number().int().min(0) }),
  ])
  .meta({ id: "ClientControl" });
export type ClientControl = z.infer<typeof ClientControl>;

/**
 * What the server says on the control stream: with `windowBytes`, how many more bytes of input the guest has taken; and as its last message how the program
 * ended, or why there is none.
 */
export const ServerControl = z
  .union([
    z.object({ ack: z.number().int().min(0) }),
    z.object({ exit: z.object({ code: z.number().int() }) }),
    z.object({ error: Problem }),
  ])
  .meta({ id: "ServerControl" });
export type ServerControl = z.infer<typeof ServerControl>;

/** Where a tar archive is read from or written to in the guest. */
export const FilesQuery = z.object({
  project: Name.optional(),
  path: z
    .string()
    .min(1)
    .max(4096)
    .regex(/^\/[^\0]*$/, "must be an absolute path"),
});
