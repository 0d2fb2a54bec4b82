import type { Generated } from "kysely";

/**
 * The tables, as Kysely sees them; migrations/ makes them. The same on both stores: ids are text, times are milliseconds since the epoch on the
 * store's clock, booleans are 0 or 1, and columns said to be JSON are text that `json.ts` validates when it is read.
 */
export interface Database {
  migration: MigrationTable;
  counter: CounterTable;
  project: ProjectTable;
  instance: InstanceTable;
  instance_label: InstanceLabelTable;
  image: ImageTable;
  image_reference: ImageReferenceTable;
  template: TemplateTable;
  archive: ArchiveTable;
  snapshot: SnapshotTable;
  pool: PoolTable;
  pool_member: PoolMemberTable;
  operation: OperationTable;
  operation_step: OperationStepTable;
  operation_claim: OperationClaimTable;
  operation_log: OperationLogTable;
  event: EventTable;
  idempotency_key: IdempotencyKeyTable;
  node: NodeTable;
  token: TokenTable;
  person: PersonTable;
  member: MemberTable;
  quota: QuotaTable;
  signing_key: SigningKeyTable;
  login_grant: LoginGrantTable;
  refresh_token: RefreshTokenTable;
  login_authorization: LoginAuthorizationTable;
  session: SessionTable;
  password_code: PasswordCodeTable;
  failed_login: FailedLoginTable;
  setting: SettingTable;
}

/** Which migrations have run, and the digest of what each did. */
export interface MigrationTable {
  name: string;
  checksum: string;
  applied_at: number;
}

/** Numbers handed out in commit order: the row stays locked until the transaction ends. */
export interface CounterTable {
  name: "event";
  value: number;
}

export interface ProjectTable {
  id: string;
  name: string;
  created_at: number;
}

export interface InstanceTable {
  id: string;
  project: string;
  name: string;
  /** JSON of Labels; `instance_label` has them once more, for filtering. */
  labels: string;
  image_id: string;
  image: string;
  location: string;
  node_id: string;
  /** JSON of InstanceSpec. */
  spec: string;
  /** JSON of InstanceStatus. */
  status: string;
  /** The status' phase once more, for filtering. */
  phase: string;
  /** JSON of the driver's Handle. */
  handle: string | null;
  /** JSON of InstanceRun: what the present or last run was started with; null when it never ran. */
  run: string | null;
  /** JSON of OpenChanges: what goes back when a change that has not ended fails; null when there is none. */
  open_changes: string | null;
  /** JSON of InstanceOrigin. */
  origin: string | null;
  /** The folder of frozen files that its disks are made from; null when they are made from the image. */
  layers: string | null;
  /** JSON of SavedMemory: what its next start, or its present run, goes on from; null for none but its own or a template's. */
  memory: string | null;
  generation: number;
  created_at: number;
  updated_at: number;
}

export interface InstanceLabelTable {
  instance_id: string;
  key: string;
  value: string;
  /** Copies of the instance's, so that a filtered list is one range of an index. */
  project: string;
  created_at: number;
}

export interface ImageTable {
  id: string;
  project: string;
  /** JSON of ImageSource. */
  source: string;
  state: string;
  reason: string;
  content_digest: string | null;
  kind: string;
  os: string;
  architecture: string;
  firmware: string;
  size_bytes: number | null;
  /** JSON of StartConfig. */
  start_config: string | null;
  operation_id: string | null;
  created_at: number;
  updated_at: number;
}

export interface ImageReferenceTable {
  project: string;
  reference: string;
  image_id: string;
  created_at: number;
}

export interface TemplateTable {
  id: string;
  project: string;
  location: string;
  node_id: string;
  /** SHA-256 of the shape's text. */
  shape_key: string;
  /** JSON of TemplateShape. */
  shape: string;
  /** The image's reference when the template was first asked for. */
  image: string;
  state: string;
  reason: string;
  size_bytes: number | null;
  uses: number;
  last_used_at: number | null;
  /** How often in a row it could not be made. */
  failures: number;
  operation_id: string | null;
  created_at: number;
  updated_at: number;
}

export interface ArchiveTable {
  id: string;
  project: string;
  /** Whose disk it is on. */
  node_id: string;
  name: string;
  /** JSON of ArchiveSource. */
  source: string;
  size_bytes: number | null;
  beginning: string | null;
  created_at: number;
  expires_at: number;
}

export interface SnapshotTable {
  id: string;
  project: string;
  name: string;
  /** The instance may be gone. */
  instance_id: string;
  instance_name: string;
  consistency: string;
  state: string;
  image_id: string;
  image: string;
  location: string;
  node_id: string;
  /** JSON of the InstanceSpec at that moment. */
  spec: string;
  /** JSON of the disks' names and sizes. */
  disks: string;
  /** The folder of its frozen files: who knows it can reach them, so it is shown to nobody. */
  folder: string;
  own_bytes: number;
  shared_bytes: number;
  verdict: string;
  verdict_reason: string;
  verified_at: number | null;
  created_at: number;
  kind: string;
  memory_bytes: number;
  /** 1 when its instance's schedule took it. */
  automatic: number;
}

export interface PoolTable {
  id: string;
  project: string;
  name: string;
  image: string;
  location: string;
  node_id: string;
  cpus: number;
  memory_mib: number;
  size: number;
  uses: number;
  state: string;
  reason: string;
  /** How often in a row a machine could not be made for it, and when last. */
  failures: number;
  failed_at: number | null;
  created_at: number;
  updated_at: number;
}

export interface PoolMemberTable {
  /** The id of the instance that claims it. */
  id: string;
  pool_id: string;
  project: string;
  location: string;
  node_id: string;
  shape_key: string;
  /** JSON of TemplateShape. */
  shape: string;
  state: string;
  created_at: number;
}

export interface OperationTable {
  /** The order in which operations that share a resource were asked for. */
  seq: Generated<number>;
  id: string;
  type: string;
  project: string;
  target_kind: string;
  target_id: string;
  target_name: string;
  /** A higher rank cancels lower ones that hold its resources, and goes before them. */
  rank: number;
  /** JSON given by who asked. */
  input: string;
  requested_by: string;
  status: string;
  reason: string;
  /** JSON left by the workflow. */
  result: string | null;
  /** JSON of Problem. */
  error: string | null;
  /** JSON of how it will end, once that is decided and what was begun is being undone. */
  ending: string | null;
  /** The only node that may run it; null for any. */
  node_id: string | null;
  /** How often it was begun: once, and again after each crash, lost lease or passing failure. */
  attempt: number;
  /** Failures in a row outside of steps. */
  failures: number;
  /** 1 while it waits by its own decision, so that being claimed again is no new attempt. */
  waiting: number;
  waits_for: string | null;
  /** Rises with each wake-up, so that none is lost between looking and falling asleep. */
  wakes: number;
  /** How many of its resources others still hold. */
  claims_missing: number;
  cancel_requested: number;
  due_at: number;
  lease_owner: string | null;
  lease_until: number;
  /** Rises with each claim; who writes with an older one has lost the operation. */
  fence: number;
  created_at: number;
  started_at: number | null;
  ended_at: number | null;
}

export interface OperationStepTable {
  operation_id: string;
  name: string;
  /** The order in which steps began; undo goes the other way. */
  position: number;
  status: string;
  /** JSON left by the step. */
  result: string | null;
  failures: number;
  undo_failures: number;
  started_at: number;
  ended_at: number | null;
  percent: number | null;
  detail: string | null;
}

export interface OperationClaimTable {
  resource: string;
  operation_id: string;
  /** 1 for the one that has the resource, 0 for those that wait for it. */
  held: number;
  /** Copies of the operation's: the order of the waiting. */
  rank: number;
  seq: number;
}

export interface OperationLogTable {
  operation_id: string;
  seq: number;
  at: number;
  line: string;
}

export interface EventTable {
  seq: number;
  type: string;
  project: string;
  subject_kind: string;
  subject_id: string;
  subject_name: string;
  operation_id: string | null;
  /** JSON of small facts. */
  data: string;
  at: number;
}

export interface IdempotencyKeyTable {
  project: string;
  token_id: string;
  key: string;
  request_hash: string;
  status: number;
  /** JSON of the answer. */
  response: string;
  created_at: number;
  expires_at: number;
}

export interface NodeTable {
  id: string;
  name: string;
  /** JSON of the api's Node, without id and name. */
  facts: string;
  started_at: number;
  seen_at: number;
}

export interface TokenTable {
  id: string;
  name: string;
  /** SHA-256 of the secret, in hex; the secret itself is nowhere. */
  hash: string;
  role: string;
  /** The project it is confined to; null for the whole system. */
  project: string | null;
  /** JSON of the scopes it is limited to; null for all that its role may. */
  scopes: string | null;
  /** What the secret begins with. */
  prefix: string;
  created_at: number;
  used_at: number | null;
  expires_at: number | null;
  revoked_at: number | null;
}

/** A user; `user` is a word of SQL. */
export interface PersonTable {
  id: string;
  name: string;
  /** 1 for who administers the whole system. */
  admin: number;
  /** argon2id in the form of PHC; null until it is set. */
  password: string | null;
  created_at: number;
  last_login_at: number | null;
}

export interface MemberTable {
  user_id: string;
  project: string;
  role: string;
}

export interface SessionTable {
  /** SHA-256 of the cookie's secret, in hex. */
  hash: string;
  user_id: string;
  created_at: number;
  used_at: number;
  expires_at: number;
}

export interface PasswordCodeTable {
  /** SHA-256 of the code, in hex. */
  hash: string;
  user_id: string;
  expires_at: number;
}

export interface FailedLoginTable {
  /** The name that was given, whether or not there is such a user. */
  account: string;
  address: string;
  /** How often in a row. */
  failures: number;
  failed_at: number;
}

/** The most that a project may have; null for as much as there is. */
export interface QuotaTable {
  project: string;
  instances: number | null;
  cpus: number | null;
  memory_mib: number | null;
  disk_mib: number | null;
  ports: number | null;
  images: number | null;
}

export interface SigningKeyTable {
  id: string;
  /** JSON of the public JWK; the private one is in the memory of the berthd that made it, and nowhere else. */
  public_key: string;
  expires_at: number;
}

/** A user's login by a program. */
export interface LoginGrantTable {
  id: string;
  user_id: string;
  /** JSON of the scopes it is limited to; null for all that the user may. */
  scopes: string | null;
  created_at: number;
  expires_at: number;
}

export interface RefreshTokenTable {
  /** SHA-256 of the token, in hex. */
  hash: string;
  grant_id: string;
  /** When another took its place; null while it is the newest. */
  used_at: number | null;
}

export interface LoginAuthorizationTable {
  /** SHA-256 of the authorization code or the device code, in hex. */
  hash: string;
  /** What a device shows its user; null for an authorization code. */
  user_code: string | null;
  code_challenge: string | null;
  redirect_uri: string | null;
  /** JSON of the scopes it is limited to; null for all that the user may. */
  scopes: string | null;
  /** Who allowed it; null while nobody has. */
  user_id: string | null;
  /** The grant it was used for; null while it is not used. */
  grant_id: string | null;
  refused_at: number | null;
  /** When the device asked last. */
  asked_at: number | null;
  expires_at: number;
}

export interface SettingTable {
  name: string;
  /** JSON. */
  value: string;
}
