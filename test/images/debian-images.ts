import { join } from "node:path";
import { type TarItem, writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import type { Host } from "../../packages/daemon/src/host/host.ts";
import { createOciLayout } from "../support/oci-layout.ts";

/** Debian made by mmdebstrap, with three of its services, and what the tests look at it with. */
const packages = ["nginx-light", "redis-server", "postgresql", "attr", "libcap2-bin"];
/** 200 MB that nothing here uses: what is for people to read, and PostgreSQL's just-in-time compiler. */
const leftOut = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "*/libLLVM*", "*/libz3*"];

const nginx = `pid /tmp/nginx.pid;
error_log /dev/stderr;
events {}
http {
  access_log /dev/stdout;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen 8080; root /srv; }
}
`;

const capability = Buffer.from([1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/** What tar archives rarely have, laid over Debian; `debian.test.ts` looks for each from inside. */
const oddities: TarItem[] = [
  { path: "odd/", type: "5", mode: 0o2750, uid: 70_000, gid: 905_696, mtime: 1_600_000_000 },
  { path: "odd/set-uid", content: "x", mode: 0o4711, uid: 33, gid: 42, mtime: 1_600_000_001 },
  { path: "odd/ping", content: "y", mode: 0o755, pax: { "SCHILY.xattr.security.capability": capability } },
  { path: "odd/one", content: "linked", mode: 0o640, uid: 1, mtime: 1_600_000_002 },
  { path: "odd/two", type: "1", target: "odd/one" },
  { path: "odd/link", type: "2", target: "../nowhere/to be found" },
  { path: "odd/dated", pax: { mtime: "1600000003.123456789", "SCHILY.xattr.user.colour": "deep blue" } },
  { path: "odd/late", pax: { mtime: "4294967296.5" } },
  { path: "odd/pipe", type: "6", mode: 0o600 },
  { path: 'odd/a "quoted" name', content: "q" },
  { path: "etc/.wh.debian_version" },
];

const services: TarItem[] = [
  { path: "etc/nginx/berth.conf", content: nginx },
  { path: "srv/index.html", content: "nginx of Debian\n" },
  { path: "etc/postgresql/berth_hba.conf", content: "local all all trust\nhost all all all trust\n" },
];

const postgres = [
  ...["/usr/lib/postgresql/15/bin/postgres", "-D", "/var/lib/postgresql/15/main"],
  ...["-c", "config_file=/etc/postgresql/15/main/postgresql.conf", "-c", "hba_file=/etc/postgresql/berth_hba.conf"],
  // Debian's init would have made /run/postgresql.
  ...["-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp", "-c", "external_pid_file=/tmp/postgres.pid"],
];

/**
 * Makes four images of one Debian and pushes them as tags of `debian` to a registry: `base`, `nginx`, `redis`, `postgres`. Answers where the archive of
 * Debian's files is: what the images must be.
 */
export async function pushDebianImages(host: Host, folder: string, registry: string): Promise<string> {
  const tar = join(folder, "debian.tar");
  const options = { timeoutMs: 10 * 60_000, env: { HOME: folder } };
  const left = ["force-unsafe-io", ...leftOut.map((path) => `path-exclude=${path}`)].map((one) => `--dpkgopt=${one}`);
  await host.run(
    "mmdebstrap",
    ["--variant=minbase", ...left, `--include=${packages.join(",")}`, "bookworm", tar],
    options,
  );
  await host.run("zstd", ["-q", "-1", "-T0", tar], options);
  const layout = createOciLayout(join(folder, "layout"));
  const debian = await layout.addZstdFile(`${tar}.zst`, tar);
  const laidOver = layout.addTar(writeTar(services));
  layout.addImage("base", [debian, layout.addTar(writeTar(oddities))], { Cmd: ["sleep", "infinity"] });
  layout.addImage("nginx", [debian, laidOver], {
    Entrypoint: ["nginx", "-c", "/etc/nginx/berth.conf", "-g", "daemon off;"],
    User: "www-data",
    ExposedPorts: { "8080/tcp": {} },
    StopSignal: "SIGQUIT",
  });
  layout.addImage("redis", [debian, laidOver], {
    Cmd: ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "3600 1"],
    User: "redis",
    WorkingDir: "/var/lib/redis",
    ExposedPorts: { "6379/tcp": {} },
  });
  layout.addImage("postgres", [debian, laidOver], {
    Entrypoint: postgres,
    User: "postgres",
    ExposedPorts: { "5432/tcp": {} },
    StopSignal: "SIGINT",
  });
  for (const tag of ["base", "nginx", "redis", "postgres"]) {
    const places = [`oci:${join(folder, "layout")}:${tag}`, `docker://${registry}/debian:${tag}`];
    await host.run("skopeo", ["copy", "--quiet", "--dest-tls-verify=false", ...places], options);
  }
  return tar;
}
