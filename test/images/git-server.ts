import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** The repositories of a folder over smart HTTP on loopback: git's own http-backend as a CGI program (git-http-backend(1)). */
export interface GitServer extends AsyncDisposable {
  /** `127.0.0.1:port`. */
  readonly host: string;
}

export async function startGitServer(folder: string): Promise<GitServer> {
  const server = createServer((request, response) => answer(folder, request, response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}

function answer(folder: string, request: IncomingMessage, response: ServerResponse): void {
  const { pathname, search } = new URL(request.url ?? "/", "http://localhost");
  const {
    "content-type": type = "",
    "content-encoding": encoding = "",
    "git-protocol": protocol = "",
  } = request.headers;
  const backend = spawn("git", ["http-backend"], {
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: "1",
      REQUEST_METHOD: request.method,
      PATH_INFO: decodeURIComponent(pathname),
      QUERY_STRING: search.slice(1),
      CONTENT_TYPE: type,
      HTTP_CONTENT_ENCODING: encoding,
      GIT_PROTOCOL: `${protocol}`,
    },
  });
  request.pipe(backend.stdin.on("error", () => {}));
  let head = Buffer.alloc(0);
  backend.stdout.on("data", function onHead(chunk: Buffer) {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    backend.stdout.off("data", onHead);
    const fields = head
      .subarray(0, end)
      .toString("latin1")
      .split("\r\n")
      .map((line) => line.split(": ", 2) as [string, string]);
    const status = Number.parseInt(fields.find(([name]) => name === "Status")?.[1] ?? "200", 10);
    response.writeHead(status, fields.filter(([name]) => name !== "Status").flat());
    response.write(head.subarray(end + 4));
    backend.stdout.pipe(response);
  });
  backend.stdout.on("end", () => response.end());
}
