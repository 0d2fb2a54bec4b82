import type { CommandValue } from "./command.ts";

/** A command that is loaded when it is asked for. */
export interface Leaf {
  readonly brief: string;
  readonly load: () => Promise<{ readonly default: CommandValue }>;
  readonly hidden?: true;
  /** The command's last words are another program's and its options: everything behind this many arguments is passed on as it is. */
  readonly passOnAfter?: number;
}

/** Commands under a noun. */
export interface Branch {
  readonly brief: string;
  readonly routes: Readonly<Record<string, Leaf>>;
}

export const aliases: Readonly<Record<string, string>> = {
  ps: "ls",
  run: "launch",
  images: "image",
  templates: "template",
  pools: "pool",
  projects: "project",
  tokens: "token",
  users: "user",
};

/** Every command there is, by the words that call it. */
export const tree: Readonly<Record<string, Leaf | Branch>> = {
  launch: {
    brief: "Make an instance from an image or a snapshot",
    load: () => import("./commands/instance/launch.ts"),
    passOnAfter: 1,
  },
  ls: { brief: "List instances", load: () => import("./commands/instance/ls.ts") },
  show: { brief: "Show one instance", load: () => import("./commands/instance/show.ts") },
  set: { brief: "Change an instance", load: () => import("./commands/instance/set.ts"), passOnAfter: 1 },
  fork: { brief: "Make children of a running instance", load: () => import("./commands/instance/fork.ts") },
  rebuild: {
    brief: "Make an instance's root disk anew",
    load: () => import("./commands/instance/rebuild.ts"),
  },
  start: { brief: "Start instances", load: () => import("./commands/instance/start.ts") },
  stop: { brief: "Stop instances", load: () => import("./commands/instance/stop.ts") },
  suspend: {
    brief: "Put instances to sleep, their memory on disk",
    load: () => import("./commands/instance/suspend.ts"),
  },
  resume: { brief: "Let suspended instances go on", load: () => import("./commands/instance/resume.ts") },
  restart: { brief: "Restart instances", load: () => import("./commands/instance/restart.ts") },
  rm: { brief: "Delete instances and their disks", load: () => import("./commands/instance/rm.ts") },
  exec: { brief: "Run a program in a guest", load: () => import("./commands/instance/exec.ts"), passOnAfter: 1 },
  shell: { brief: "Open a shell in a guest", load: () => import("./commands/instance/shell.ts") },
  logs: { brief: "Show what an instance wrote to its console", load: () => import("./commands/instance/logs.ts") },
  cp: { brief: "Copy files into a guest or out of it", load: () => import("./commands/instance/cp.ts") },
  console: { brief: "Attach to the serial console", load: () => import("./commands/instance/console.ts") },
  export: { brief: "Write an instance into one file", load: () => import("./commands/instance/export.ts") },
  import: { brief: "Make an instance of such a file", load: () => import("./commands/instance/import.ts") },
  archive: {
    brief: "Instances in files, on their way out of berthd or into it",
    routes: {
      ls: { brief: "List archives", load: () => import("./commands/archive/ls.ts") },
      rm: { brief: "Delete archives from their node", load: () => import("./commands/archive/rm.ts") },
    },
  },
  image: {
    brief: "Images",
    routes: {
      pull: { brief: "Pull images from a registry", load: () => import("./commands/image/pull.ts") },
      build: { brief: "Build an image from a Dockerfile", load: () => import("./commands/image/build.ts") },
      ls: { brief: "List images", load: () => import("./commands/image/ls.ts") },
      show: { brief: "Show one image", load: () => import("./commands/image/show.ts") },
      rm: { brief: "Delete images", load: () => import("./commands/image/rm.ts") },
    },
  },
  template: {
    brief: "Templates: memory of booted machines, from which instances are cloned",
    routes: {
      ls: { brief: "List templates", load: () => import("./commands/template/ls.ts") },
      show: { brief: "Show one template", load: () => import("./commands/template/show.ts") },
      rm: { brief: "Delete templates", load: () => import("./commands/template/rm.ts") },
      prune: { brief: "Delete templates that are of no use", load: () => import("./commands/template/prune.ts") },
    },
  },
  snapshot: {
    brief: "Snapshots: what was on an instance's disks",
    routes: {
      create: { brief: "Take a snapshot of an instance", load: () => import("./commands/snapshot/create.ts") },
      ls: { brief: "List snapshots, newest first", load: () => import("./commands/snapshot/ls.ts") },
      show: { brief: "Show one snapshot", load: () => import("./commands/snapshot/show.ts") },
      restore: { brief: "Put an instance back to a snapshot", load: () => import("./commands/snapshot/restore.ts") },
      verify: {
        brief: "Verify that snapshots are what they were",
        load: () => import("./commands/snapshot/verify.ts"),
      },
      promote: { brief: "Make an image of a snapshot", load: () => import("./commands/snapshot/promote.ts") },
      rm: { brief: "Delete snapshots", load: () => import("./commands/snapshot/rm.ts") },
    },
  },
  pool: {
    brief: "Pools: machines that wait to become instances",
    routes: {
      create: { brief: "Make a pool", load: () => import("./commands/pool/create.ts") },
      ls: { brief: "List pools", load: () => import("./commands/pool/ls.ts") },
      show: { brief: "Show one pool", load: () => import("./commands/pool/show.ts") },
      set: { brief: "Change how many machines wait in a pool", load: () => import("./commands/pool/set.ts") },
      rm: { brief: "Delete pools and the machines that wait in them", load: () => import("./commands/pool/rm.ts") },
    },
  },
  op: {
    brief: "Operations: the work that was asked for",
    routes: {
      ls: { brief: "List operations, newest first", load: () => import("./commands/op/ls.ts") },
      show: { brief: "Show one operation with its steps", load: () => import("./commands/op/show.ts") },
      cancel: { brief: "Cancel operations", load: () => import("./commands/op/cancel.ts") },
      wait: { brief: "Wait for an operation to end", load: () => import("./commands/op/wait.ts") },
      log: { brief: "Show the log of a pull or build", load: () => import("./commands/op/log.ts") },
    },
  },
  project: {
    brief: "Projects: what belongs together, and who may do what to it",
    routes: {
      create: { brief: "Make a project", load: () => import("./commands/project/create.ts") },
      ls: { brief: "List projects", load: () => import("./commands/project/ls.ts") },
      show: { brief: "Show one project", load: () => import("./commands/project/show.ts") },
      set: { brief: "Change what a project may have", load: () => import("./commands/project/set.ts") },
      rm: { brief: "Delete projects that hold nothing", load: () => import("./commands/project/rm.ts") },
    },
  },
  token: {
    brief: "Tokens: credentials for programs",
    routes: {
      create: { brief: "Make a token and print its secret", load: () => import("./commands/token/create.ts") },
      ls: { brief: "List tokens, newest first", load: () => import("./commands/token/ls.ts") },
      show: { brief: "Show one token, without its secret", load: () => import("./commands/token/show.ts") },
      rm: { brief: "Revoke tokens", load: () => import("./commands/token/rm.ts") },
    },
  },
  user: {
    brief: "Users: people, with passwords and roles",
    routes: {
      create: {
        brief: "Make a user and print a link that sets a password",
        load: () => import("./commands/user/create.ts"),
      },
      ls: { brief: "List users, newest first", load: () => import("./commands/user/ls.ts") },
      show: { brief: "Show one user", load: () => import("./commands/user/show.ts") },
      set: { brief: "Change what a user may do", load: () => import("./commands/user/set.ts") },
      reset: { brief: "Print a link that sets a new password", load: () => import("./commands/user/reset.ts") },
      rm: { brief: "Delete users", load: () => import("./commands/user/rm.ts") },
    },
  },
  node: {
    brief: "Nodes: the machines that run berthd",
    routes: {
      ls: { brief: "List nodes", load: () => import("./commands/node/ls.ts") },
      show: { brief: "Show one node: what it has, can do and lacks", load: () => import("./commands/node/show.ts") },
    },
  },
  login: {
    brief: "Log in to a berthd as yourself, with the browser",
    load: () => import("./commands/system/login.ts"),
  },
  logout: { brief: "End that login", load: () => import("./commands/system/logout.ts") },
  whoami: {
    brief: "Show who you are to berthd, and what you may do",
    load: () => import("./commands/system/whoami.ts"),
  },
  events: { brief: "Follow what happens", load: () => import("./commands/system/events.ts") },
  doctor: { brief: "Check berthd and its nodes", load: () => import("./commands/system/doctor.ts") },
  down: { brief: "Stop every instance", load: () => import("./commands/system/down.ts") },
  purge: { brief: "Remove everything Berth made on this machine", load: () => import("./commands/system/purge.ts") },
  completion: {
    brief: "Print a completion script for bash, zsh or fish",
    load: () => import("./commands/system/completion.ts"),
  },
  version: { brief: "Print the version", load: () => import("./commands/system/version.ts") },
};

/** The command that words call, with the words that name it. */
export function findLeaf(
  words: readonly string[],
): { readonly path: readonly string[]; readonly leaf: Leaf } | undefined {
  const [first = "", second = ""] = words;
  const noun = aliases[first] ?? first;
  const found = Object.hasOwn(tree, noun) ? tree[noun] : undefined;
  if (!found) return undefined;
  if ("load" in found) return { path: [noun], leaf: found };
  const leaf = Object.hasOwn(found.routes, second) ? found.routes[second] : undefined;
  return leaf && { path: [noun, second], leaf };
}

/** The words of every command. */
export function allPaths(): readonly (readonly string[])[] {
  return Object.entries(tree).flatMap(([noun, entry]) =>
    "load" in entry ? [[noun]] : Object.keys(entry.routes).map((verb) => [noun, verb]),
  );
}
