import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { type DockerRegistry, startDockerRegistry } from "../../packages/daemon/src/images/testing/docker-registry.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { freePort } from "../support/ports.ts";
import { berthOf, type RunBerth } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { pushDebianImages } from "./debian-images.ts";
import { findListing, type Tree, tarListing, treeFromFind, treeFromTar } from "./tree.ts";

const host = localHost();
let folder: string;
let registry: DockerRegistry;
let debian: Tree;

beforeAll(async () => {
  folder = await scratchDirectory("deb");
  registry = await startDockerRegistry(host, join(folder, "registry"), await freePort());
  const tar = await pushDebianImages(host, folder, registry.host);
  debian = treeFromTar((await host.run("tar", [...tarListing, "--file", tar])).stdout);
  // Installing 200 packages takes three quarters of a minute, and several on a busy machine.
}, 600_000);
afterAll(async () => {
  await registry?.[Symbol.asyncDispose]();
});

/** Files of other file systems, and those that a start lays over the image's. */
const notOfTheDisk =
  /^\/(dev|proc|sys)(\/|$)|^\/etc\/(hosts|hostname|resolv\.conf|machine-id)$|^\/run(\/berth)?$|^\/lost\+found$/;
/** What the second layer changes. */
const laidOver = /^\/odd(\/|$)|^\/etc$|^\/etc\/debian_version$/;

describe.each(whoRunsBerthd)("berthd as $who", ({ who, ordinaryUser }) => {
  let berthd: Berthd;
  let cli: RunBerth;

  beforeAll(async () => {
    berthd = await startBerthd({
      dataDir: join(folder, ordinaryUser ? "u" : "r"),
      ordinaryUser,
      env: { BERTH_ALLOW_HOSTS: registry.host },
    });
    cli = berthOf(berthd);
  });
  afterAll(async () => {
    if (!berthd) return;
    const left = (await berthd.client.listInstances()).items.map(({ name }) => name);
    if (left.length > 0) await cli.berth("rm", "--force", ...left);
    await berthd.stop();
  });

  /** Launches a service's image; answers the host port its own is published at. */
  const launch = async (name: string, port: number, ...options: readonly string[]) => {
    await cli.berth("launch", `${registry.host}/debian:${name}`, "--name", name, "-p", `${port}`, ...options);
    return await portOf(name);
  };
  const find = (name: string) => berthd.client.getInstance({ params: { instance: name } });
  const portOf = async (name: string) => (await find(name)).status.ports[0]?.hostPort ?? 0;
  const inside = (name: string, ...command: readonly string[]) =>
    cli.berth("exec", "-u", "root", name, "--", ...command);
  const userOf = async (name: string, program: string) =>
    await inside(name, "sh", "-c", `stat -c %U /proc/$(pgrep -o ${program} || pidof -s ${program})`);
  const finish = async (name: string) => {
    await cli.berth("stop", name);
    const { status } = await find(name);
    expect(status, await cli.berth("logs", name)).toMatchObject({ phase: "stopped", exitCode: 0 });
    await cli.berth("rm", name);
  };

  test("Debian has every file as its archive says: types, modes, owners, sizes, times, links", async () => {
    await cli.berth("launch", `${registry.host}/debian:base`, "--name", "base");
    const seen = treeFromFind(await inside("base", ...findListing));
    const comparable = (tree: Tree) =>
      [...tree]
        .filter(([path]) => !notOfTheDisk.test(path) && !laidOver.test(path))
        .map(([path, facts]) => `${path} ${facts}`)
        .sort();
    const expected = comparable(debian);
    expect(expected.length).toBeGreaterThan(5000);
    const [missing, added] = differences(expected, comparable(seen));
    expect({ missing: missing.slice(0, 20), added: added.slice(0, 20) }).toEqual({ missing: [], added: [] });
  });

  test("what archives rarely have is there: capabilities, attributes, set-ids, nanoseconds, hard links, pipes", async () => {
    const stat = async (format: string, ...paths: readonly string[]) =>
      (await inside("base", "stat", "-c", format, ...paths.map((path) => `/odd/${path}`))).trim().split("\n");
    expect(await stat("%A %u:%g %Y", "", "set-uid", "one", "two")).toEqual([
      "drwxr-s--- 70000:905696 1600000000",
      "-rws--x--x 33:42 1600000001",
      "-rw-r----- 1:0 1600000002",
      "-rw-r----- 1:0 1600000002",
    ]);
    expect(await stat("%F %h", "one", "two", "pipe", 'a "quoted" name')).toEqual([
      "regular file 2",
      "regular file 2",
      "fifo 1",
      "regular file 1",
    ]);
    expect(new Set(await stat("%i", "one", "two")).size).toBe(1);
    expect(await stat("%.9Y", "dated", "late")).toEqual(["1600000003.123456789", "4294967296.500000000"]);
    expect(await inside("base", "getcap", "-r", "/odd")).toBe("/odd/ping cap_net_bind_service=ep\n");
    expect(
      await inside("base", "getfattr", "--absolute-names", "-n", "user.colour", "--only-values", "/odd/dated"),
    ).toBe("deep blue");
    expect(await inside("base", "readlink", "/odd/link")).toBe("../nowhere/to be found\n");
    expect((await cli.run(["exec", "base", "--", "test", "-e", "/etc/debian_version"])).code).toBe(1);
    await cli.berth("rm", "--force", "base");
  });

  test("nginx answers as www-data, writes its log where images do, and ends by SIGQUIT", async () => {
    const port = await launch("nginx", 8080, "--memory", "256M");
    const answer = await fetch(`http://127.0.0.1:${port}/`);
    expect(await answer.text()).toBe("nginx of Debian\n");
    expect(await userOf("nginx", "nginx")).toBe("www-data\n");
    expect(await cli.berth("logs", "nginx")).toContain('"GET / HTTP/1.1" 200');
    await finish("nginx");
  });

  test("redis answers as redis, and has its data again after a stop and a start", async () => {
    const port = await launch("redis", 6379, "--memory", "256M");
    expect(await redis(port, "PING")).toBe("+PONG");
    expect(await redis(port, `SET who ${who.replaceAll(" ", "-")}`)).toBe("+OK");
    expect(await userOf("redis", "redis-server")).toBe("redis\n");
    await cli.berth("restart", "redis");
    expect(await redis(await portOf("redis"), "STRLEN who")).toBe(`:${who.length}`);
    await finish("redis");
  });

  test("postgresql answers psql as postgres, whose group lets it read its key, and ends by SIGINT", async () => {
    const port = await launch("postgres", 5432, "--memory", "256M");
    const server = { PGHOST: "127.0.0.1", PGPORT: `${port}`, PGUSER: "postgres", PGSSLMODE: "require" };
    const accepts = () =>
      host.run("pg_isready", [], { env: server }).then(
        () => true,
        () => false,
      );
    // It listens before it lets anyone in.
    while (!(await accepts()));
    const { stdout } = await host.run(
      "psql",
      [
        "-X",
        "-A",
        "-t",
        "-c",
        "create table t as select 6 * 7 as n",
        "-c",
        "select n, current_user, ssl from t, pg_stat_ssl where pid = pg_backend_pid()",
      ],
      { env: server },
    );
    expect(stdout.trim().split("\n").at(-1)).toBe("42|postgres|t");
    expect(await userOf("postgres", "postgres")).toBe("postgres\n");
    await finish("postgres");
  });
});

function differences(expected: readonly string[], seen: readonly string[]): [string[], string[]] {
  const [wanted, there] = [new Set(expected), new Set(seen)];
  return [expected.filter((line) => !there.has(line)), seen.filter((line) => !wanted.has(line))];
}

/** Says one line to redis and answers its first. */
async function redis(port: number, words: string): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port });
  await once(socket, "connect");
  socket.write(`${words}\r\nQUIT\r\n`);
  return (await text(socket)).split("\r\n")[0] ?? "";
}
