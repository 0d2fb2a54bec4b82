import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { machine } from "node:os";
import { dirname, join } from "node:path";
import { findProgram } from "../../tools/setup/programs.mjs";

const source = join(import.meta.dirname, "probe.c");

/** Folders with a Dockerfile, each an image of another kind with the program probe.c in it. Everyone may read them. */
export interface MadeImages {
  /** busybox, users and groups, and a program linked with musl; everything a Dockerfile can say about a start. */
  readonly musl: string;
  /** A program linked with glibc, its loader and library, and nothing else. */
  readonly glibc: string;
  /** One file. */
  readonly static: string;
}

export function makeImages(folder: string): MadeImages {
  return {
    musl: muslImage(join(folder, "musl")),
    glibc: glibcImage(join(folder, "glibc")),
    static: staticImage(join(folder, "static")),
  };
}

function muslImage(folder: string): string {
  compile("musl-gcc", join(folder, "bin/probe"));
  // The loader and the C library in one.
  copyTo(folder, `/lib/ld-musl-${machine()}.so.1`);
  const busybox = findProgram("busybox");
  if (!busybox) throw new Error("busybox is not installed: run npm test");
  copyFileSync(busybox, join(folder, "bin/busybox"));
  return finish(folder, {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/srv/app:/bin/sh\n",
    "etc/group": "root:x:0:\napp:x:1001:\naudio:x:29:app\nvideo:x:44:app\nothers:x:2000:\n",
    Dockerfile: `FROM scratch
COPY bin /bin
COPY lib /lib
COPY etc /etc
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /srv/app/data /var/probe && chown app:app /srv/app /srv/app/data /var/probe
ENV FROM_IMAGE="an image" OVERRIDDEN=no
LABEL team=probe
EXPOSE 8080 53/udp
STOPSIGNAL SIGUSR1
WORKDIR /srv/app
WORKDIR data
USER app
ENTRYPOINT ["/bin/probe", "from entrypoint"]
CMD ["from cmd"]
`,
  });
}

function glibcImage(folder: string): string {
  const program = compile("gcc", join(folder, "opt/probe"));
  // `ldd` names the loader and each library with its path and its address.
  const listed = execFileSync("ldd", [program], { encoding: "utf8" });
  for (const [path] of listed.matchAll(/\/\S+(?= \(0x)/g)) copyTo(folder, path);
  return finish(folder, {
    "var/probe/.keep": "",
    Dockerfile: `FROM scratch
COPY . /
WORKDIR /made/by/workdir
STOPSIGNAL 12
USER 1234:2345
ENTRYPOINT ["/opt/probe"]
`,
    ".dockerignore": "Dockerfile\n.dockerignore\n",
  });
}

function staticImage(folder: string): string {
  compile("musl-gcc", join(folder, "probe"), "-static");
  return finish(folder, { Dockerfile: 'FROM scratch\nCOPY probe /probe\nCMD ["/probe", "from cmd"]\n' });
}

function compile(compiler: string, program: string, ...options: readonly string[]): string {
  mkdirSync(dirname(program), { recursive: true });
  execFileSync(compiler, ["-O1", "-o", program, source, ...options]);
  return program;
}

/** Copies a file of this machine to the same place below the folder; of a link, what it leads to. */
function copyTo(folder: string, path: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  copyFileSync(path, join(folder, path));
  chmodSync(join(folder, path), 0o755);
}

function finish(folder: string, files: Readonly<Record<string, string>>): string {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  return folder;
}
